//! Canonical XML 1.1 (W3C, 2008) of documents that [`super::reader`] reads, without comments.
//!
//! What the subset leaves of it: empty elements as pairs, namespace declarations only where they change something and
//! sorted by prefix, attributes sorted by namespace and name, double quotes, and the five escapes.

use std::collections::BTreeMap;

use super::tree::{Declaration, Element, Node};

/// Prefixes and what they stand for.
type Scope<'a> = BTreeMap<&'a str, &'a str>;

/// The canonical form of `element` with everything in it but `omitted`. `around` are the declarations of the elements
/// around it, the outermost first: the inclusive form writes them at its outermost element.
pub(crate) fn canonical(
    element: &Element,
    around: &[&[Declaration]],
    omitted: Option<&Element>,
) -> String {
    let mut scope = Scope::new();
    for declaration in around.iter().copied().flatten() {
        scope.insert(&declaration.prefix, &declaration.uri);
    }
    let mut out = String::new();
    write_element(element, &scope, &Scope::new(), omitted, &mut out);
    out
}

fn write_element<'a>(
    element: &'a Element,
    around: &Scope<'a>,
    written: &Scope<'a>,
    omitted: Option<&Element>,
    out: &mut String,
) {
    let mut scope = around.clone();
    for declaration in &element.declarations {
        scope.insert(&declaration.prefix, &declaration.uri);
    }
    out.push('<');
    write_name(&element.name.prefix, &element.name.local, out);
    for (prefix, uri) in scope.iter().filter(|(prefix, uri)| written.get(*prefix) != Some(*uri)) {
        match *prefix {
            "" => out.push_str(" xmlns"),
            prefix => {
                out.push_str(" xmlns:");
                out.push_str(prefix);
            }
        }
        write_value(uri, out);
    }
    let mut attributes: Vec<_> = element.attributes.iter().collect();
    attributes.sort_by_key(|attribute| (&attribute.name.namespace, &attribute.name.local));
    for attribute in attributes {
        out.push(' ');
        write_name(&attribute.name.prefix, &attribute.name.local, out);
        write_value(&attribute.value, out);
    }
    out.push('>');
    for child in &element.children {
        match child {
            Node::Element(child) if omitted.is_some_and(|omitted| std::ptr::eq(omitted, child)) => {
            }
            Node::Element(child) => write_element(child, &scope, &scope, omitted, out),
            Node::Text(text) => write_text(text, out),
        }
    }
    out.push_str("</");
    write_name(&element.name.prefix, &element.name.local, out);
    out.push('>');
}

fn write_name(prefix: &str, local: &str, out: &mut String) {
    if !prefix.is_empty() {
        out.push_str(prefix);
        out.push(':');
    }
    out.push_str(local);
}

fn write_value(value: &str, out: &mut String) {
    out.push_str("=\"");
    for c in value.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '"' => out.push_str("&quot;"),
            '\t' => out.push_str("&#x9;"),
            '\n' => out.push_str("&#xA;"),
            '\r' => out.push_str("&#xD;"),
            c => out.push(c),
        }
    }
    out.push('"');
}

fn write_text(text: &str, out: &mut String) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\r' => out.push_str("&#xD;"),
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::reader::read, *};

    fn canonical_of(text: &str) -> String {
        canonical(&read(text.as_bytes()).expect(text), &[], None)
    }

    #[test]
    fn known_forms() {
        for (text, expected) in [
            ("<a/>", "<a></a>"),
            ("<?xml version=\"1.0\"?>\n<a  b = '1'/>", ""),
            ("<?xml version=\"1.0\"?>\n<a\n  b='1'\n/>\n", "<a b=\"1\"></a>"),
            (
                "<a b='x\"y&amp;&lt;>'>x>y&amp;\"</a>",
                "<a b=\"x&quot;y&amp;&lt;>\">x&gt;y&amp;\"</a>",
            ),
            ("<a z='1' b='2'/>", "<a b=\"2\" z=\"1\"></a>"),
            (
                "<e xmlns:b='http://b' xmlns:a='http://z' a:attr='1' b:attr='2' z='3' xmlns='http://d'/>",
                "<e xmlns=\"http://d\" xmlns:a=\"http://z\" xmlns:b=\"http://b\" z=\"3\" b:attr=\"2\" a:attr=\"1\"></e>",
            ),
            (
                "<a xmlns='u'><b xmlns='u'><c xmlns='v'><d xmlns='u'/></c></b></a>",
                "<a xmlns=\"u\"><b><c xmlns=\"v\"><d xmlns=\"u\"></d></c></b></a>",
            ),
            ("<a>\r\n <b/>\r\n</a>", "<a>\n <b></b>\n</a>"),
        ] {
            if expected.is_empty() {
                assert!(read(text.as_bytes()).is_err(), "{text}");
            } else {
                assert_eq!(canonical_of(text), expected, "{text}");
            }
        }
    }

    #[test]
    fn a_part_takes_along_what_is_declared_around_it() {
        let root =
            read(b"<a xmlns='u' xmlns:p='v'><p:b xmlns:q='w'><c/></p:b><d/></a>").expect("reads");
        let inner = root.elements().next().expect("b");
        assert_eq!(
            canonical(inner, &[&root.declarations], None),
            "<p:b xmlns=\"u\" xmlns:p=\"v\" xmlns:q=\"w\"><c></c></p:b>"
        );
        assert_eq!(canonical(&root, &[], Some(inner)), "<a xmlns=\"u\" xmlns:p=\"v\"><d></d></a>");
    }

    proptest::proptest! {
        #[test]
        fn a_canonical_form_is_its_own(
            name in "[a-z]{1,4}",
            value in "[ -~é]{0,12}",
            text in "[ -~\n]{0,12}",
        ) {
            let mut root = read(format!("<{name} xmlns='u' b=''>x<c/></{name}>").as_bytes()).expect("reads");
            root.attributes[0].value = value;
            root.children[0] = Node::Text(text);
            let form = canonical(&root, &[], None);
            proptest::prop_assert_eq!(canonical_of(&form), form);
        }
    }
}
