//! Reader of a strict subset of XML 1.0 with namespaces.
//!
//! Read: one root element, elements, attributes, text, the five predefined entities, an XML declaration for UTF-8.
//! Refused: document types, other entities, character references, processing instructions, comments, CDATA sections,
//! lone carriage returns, `xml:` attributes, undeclared or undone prefixes. Refused on the way in, so that nothing later
//! has to know of them.

use std::collections::BTreeSet;

use super::{
    XmlError,
    tree::{Attribute, Declaration, Element, Name, Node},
};

/// Real RIM files have 20 to 30 KB.
pub(crate) const MAX_XML_BYTES: usize = 256 * 1024;
const MAX_DEPTH: usize = 12;
const MAX_NODES: usize = 8192;
const MAX_ATTRIBUTES: usize = 80;
const MAX_NAME: usize = 64;
const MAX_VALUE: usize = 4096;

pub(crate) fn read(bytes: &[u8]) -> Result<Element, XmlError> {
    if bytes.len() > MAX_XML_BYTES {
        return Err(XmlError::TooLong { length: bytes.len(), limit: MAX_XML_BYTES });
    }
    let text = str::from_utf8(bytes)
        .map_err(|error| XmlError::Syntax { at: error.valid_up_to(), reason: "it is not UTF-8" })?;
    // XML 1.0, 2.11: a line end is one line feed to everything that follows.
    let text = text.replace("\r\n", "\n");
    let mut reader = Reader { text: &text, at: 0, nodes: 0, scope: Vec::new() };
    reader.declaration()?;
    reader.white_space();
    let root = reader.element(0)?;
    reader.white_space();
    if reader.rest().is_empty() { Ok(root) } else { Err(reader.unexpected("the end")) }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    nodes: usize,
    /// Every declaration that is in force, the innermost last.
    scope: Vec<Declaration>,
}

/// What an opening tag says.
struct Tag<'a> {
    name: &'a str,
    attributes: Vec<(&'a str, String)>,
    is_empty: bool,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn syntax(&self, reason: &'static str) -> XmlError {
        XmlError::Syntax { at: self.at, reason }
    }

    /// Names what is not read, where something else was expected.
    fn unexpected(&self, reason: &'static str) -> XmlError {
        let rest = self.rest();
        let what = match rest {
            _ if rest.starts_with("<!--") => "comments",
            _ if rest.starts_with("<![CDATA[") => "CDATA sections",
            _ if rest.starts_with("<!") => "document types",
            _ if rest.starts_with("<?") => "processing instructions",
            _ if rest.starts_with("&#") => "character references",
            _ if rest.starts_with('&') => "entities",
            _ => return self.syntax(reason),
        };
        XmlError::Refused { at: self.at, what }
    }

    fn skip(&mut self, expected: &str) -> bool {
        let found = self.rest().starts_with(expected);
        if found {
            self.at += expected.len();
        }
        found
    }

    fn expect(&mut self, expected: &str, reason: &'static str) -> Result<(), XmlError> {
        if self.skip(expected) { Ok(()) } else { Err(self.unexpected(reason)) }
    }

    fn white_space(&mut self) -> bool {
        let rest = self.rest();
        let trimmed = rest.trim_start_matches([' ', '\t', '\n']);
        self.at += rest.len() - trimmed.len();
        trimmed.len() != rest.len()
    }

    /// `<?xml version="1.0" encoding="UTF-8"?>`, as often written; not part of the canonical form.
    fn declaration(&mut self) -> Result<(), XmlError> {
        if !self.rest().starts_with("<?xml ") {
            return Ok(());
        }
        let (inside, _) =
            self.rest().split_once("?>").ok_or(self.syntax("an XML declaration has no end"))?;
        let words: Vec<String> = inside
            .split_ascii_whitespace()
            .skip(1)
            .map(|word| word.replace('\'', "\"").to_ascii_lowercase())
            .collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let known = match words.as_slice() {
            ["version=\"1.0\""] => true,
            ["version=\"1.0\"", rest @ ..] => rest.iter().all(|word| {
                matches!(*word, "encoding=\"utf-8\"" | "standalone=\"no\"" | "standalone=\"yes\"")
            }),
            _ => false,
        };
        if !known {
            return Err(self.syntax("expected a declaration of XML 1.0 in UTF-8"));
        }
        self.at += inside.len() + 2;
        Ok(())
    }

    fn element(&mut self, depth: usize) -> Result<Element, XmlError> {
        if depth >= MAX_DEPTH {
            return Err(XmlError::TooMany("levels"));
        }
        self.count_node()?;
        let tag = self.opening_tag()?;
        let outer = self.scope.len();
        let declarations = self.declare(&tag)?;
        let name = self.resolve(tag.name, DefaultApplies::Yes)?;
        let attributes = self.attributes(&tag)?;
        let children = if tag.is_empty { Vec::new() } else { self.content(tag.name, depth)? };
        self.scope.truncate(outer);
        Ok(Element { name, declarations, attributes, children })
    }

    fn count_node(&mut self) -> Result<(), XmlError> {
        self.nodes += 1;
        if self.nodes > MAX_NODES { Err(XmlError::TooMany("nodes")) } else { Ok(()) }
    }

    fn opening_tag(&mut self) -> Result<Tag<'a>, XmlError> {
        if self.rest().starts_with("<!") || self.rest().starts_with("<?") {
            return Err(self.unexpected("expected an element"));
        }
        self.expect("<", "expected an element")?;
        let name = self.name()?;
        let mut attributes: Vec<(&str, String)> = Vec::new();
        loop {
            let spaced = self.white_space();
            if self.skip("/>") {
                return Ok(Tag { name, attributes, is_empty: true });
            }
            if self.skip(">") {
                return Ok(Tag { name, attributes, is_empty: false });
            }
            if !spaced {
                return Err(self.syntax("expected white space before an attribute"));
            }
            let key = self.name()?;
            self.expect("=", "expected `=`")?;
            let value = self.attribute_value()?;
            if attributes.iter().any(|(other, _)| *other == key) {
                return Err(self.syntax("an attribute occurs twice"));
            }
            if attributes.len() >= MAX_ATTRIBUTES {
                return Err(XmlError::TooMany("attributes"));
            }
            attributes.push((key, value));
        }
    }

    fn name(&mut self) -> Result<&'a str, XmlError> {
        let rest = self.rest();
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':');
        let length = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
        let name = rest.get(..length).unwrap_or_default();
        let starts = |part: &str| part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        let mut parts = name.split(':');
        let well_formed = match (parts.next(), parts.next(), parts.next()) {
            (Some(local), None, None) => starts(local),
            (Some(prefix), Some(local), None) => starts(prefix) && starts(local),
            _ => false,
        };
        if !well_formed || name.len() > MAX_NAME {
            return Err(self.unexpected("expected a name"));
        }
        self.at += length;
        Ok(name)
    }

    fn attribute_value(&mut self) -> Result<String, XmlError> {
        let Some(quote @ ('"' | '\'')) = self.rest().chars().next() else {
            return Err(self.syntax("expected a quoted value"));
        };
        self.at += 1;
        let mut value = String::new();
        loop {
            match self.character()? {
                Character::Literal(c) if c == quote => return Ok(value),
                // A parser would have to turn them into spaces.
                Character::Literal('\n' | '\t') => {
                    return Err(self.syntax("a value has a line end or tab"));
                }
                Character::Literal('<') => return Err(self.syntax("a value has a `<`")),
                Character::Literal(c) | Character::Entity(c) => value.push(c),
            }
            if value.len() > MAX_VALUE {
                return Err(XmlError::TooMany("characters in a value"));
            }
        }
    }

    fn character(&mut self) -> Result<Character, XmlError> {
        match self.rest().chars().next() {
            None => Err(self.syntax("it ends too early")),
            Some('&') => self.entity(),
            Some(c) if is_allowed(c) => {
                self.at += c.len_utf8();
                Ok(Character::Literal(c))
            }
            Some(_) => Err(self.syntax("a character is not one of XML's, or is a lone `\\r`")),
        }
    }

    fn entity(&mut self) -> Result<Character, XmlError> {
        for (entity, c) in
            [("&amp;", '&'), ("&lt;", '<'), ("&gt;", '>'), ("&quot;", '"'), ("&apos;", '\'')]
        {
            if self.skip(entity) {
                return Ok(Character::Entity(c));
            }
        }
        Err(self.unexpected("expected a character"))
    }

    fn content(&mut self, name: &str, depth: usize) -> Result<Vec<Node>, XmlError> {
        let mut children = Vec::new();
        loop {
            let text = self.text()?;
            if !text.is_empty() {
                self.count_node()?;
                children.push(Node::Text(text));
            }
            if self.skip("</") {
                if self.name()? != name {
                    return Err(self.syntax("a closing tag has another name"));
                }
                self.white_space();
                self.expect(">", "expected `>`")?;
                return Ok(children);
            }
            children.push(Node::Element(self.element(depth + 1)?));
        }
    }

    fn text(&mut self) -> Result<String, XmlError> {
        let mut text = String::new();
        while !self.rest().starts_with('<') {
            if self.rest().starts_with("]]>") {
                return Err(self.syntax("`]]>` in text"));
            }
            match self.character()? {
                Character::Literal(c) | Character::Entity(c) => text.push(c),
            }
        }
        Ok(text)
    }

    /// Takes the declarations out of a tag's attributes and puts them in force.
    fn declare(&mut self, tag: &Tag<'_>) -> Result<Vec<Declaration>, XmlError> {
        let mut declarations = Vec::new();
        for (key, uri) in &tag.attributes {
            let prefix = match key.split_once(':') {
                None if *key == "xmlns" => "",
                Some(("xmlns", prefix)) => prefix,
                _ => continue,
            };
            if uri.is_empty() || matches!(prefix, "xml" | "xmlns") {
                return Err(self.syntax("a prefix is undone or reserved"));
            }
            if uri.starts_with("http://www.w3.org/XML/")
                || uri.starts_with("http://www.w3.org/2000/xmlns")
            {
                return Err(self.syntax("a namespace is reserved"));
            }
            declarations.push(Declaration { prefix: prefix.to_owned(), uri: uri.clone() });
        }
        self.scope.extend(declarations.iter().cloned());
        Ok(declarations)
    }

    fn attributes(&self, tag: &Tag<'_>) -> Result<Vec<Attribute>, XmlError> {
        let mut attributes = Vec::new();
        let mut seen = BTreeSet::new();
        for (key, value) in &tag.attributes {
            if *key == "xmlns" || key.starts_with("xmlns:") {
                continue;
            }
            let name = self.resolve(key, DefaultApplies::No)?;
            if !seen.insert((name.namespace.clone(), name.local.clone())) {
                return Err(self.syntax("an attribute occurs twice under two prefixes"));
            }
            attributes.push(Attribute { name, value: value.clone() });
        }
        Ok(attributes)
    }

    fn resolve(&self, name: &str, default: DefaultApplies) -> Result<Name, XmlError> {
        let (prefix, local) = name.split_once(':').unwrap_or(("", name));
        if matches!(prefix, "xml" | "xmlns") {
            return Err(XmlError::Refused { at: self.at, what: "`xml:` names" });
        }
        let declared = self.scope.iter().rev().find(|declaration| declaration.prefix == prefix);
        let namespace = match (prefix, default, declared) {
            ("", DefaultApplies::No, _) | ("", DefaultApplies::Yes, None) => String::new(),
            (_, _, Some(declaration)) => declaration.uri.clone(),
            (_, _, None) => return Err(self.syntax("a prefix is not declared")),
        };
        Ok(Name { prefix: prefix.to_owned(), local: local.to_owned(), namespace })
    }
}

/// Whether a name without prefix is in the default namespace; names of attributes are not.
#[derive(Debug, Clone, Copy)]
enum DefaultApplies {
    Yes,
    No,
}

enum Character {
    Literal(char),
    Entity(char),
}

/// XML 1.0, 2.2, without the carriage return.
fn is_allowed(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\u{20}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..='\u{10ffff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_everything_beyond_the_subset() {
        for text in [
            "<!DOCTYPE a><a/>",
            "<!DOCTYPE a [<!ENTITY x \"y\">]><a>&x;</a>",
            "<a>&x;</a>",
            "<a>&#65;</a>",
            "<a b=\"&#x41;\"/>",
            "<a><!-- c --></a>",
            "<!-- c --><a/>",
            "<a/><!-- c -->",
            "<a><![CDATA[x]]></a>",
            "<a><?p x?></a>",
            "<?p x?><a/>",
            "<a xml:lang=\"en\"/>",
            "<xml:a/>",
            "<a xmlns:xml=\"http://www.w3.org/XML/1998/namespace\"/>",
        ] {
            assert!(read(text.as_bytes()).is_err(), "{text}");
        }
        for (text, what) in [
            ("<a><!-- c --></a>", "comments"),
            ("<!DOCTYPE a><a/>", "document types"),
            ("<a>&x;</a>", "entities"),
            ("<a>&#65;</a>", "character references"),
            ("<a><![CDATA[x]]></a>", "CDATA sections"),
            ("<a><?p x?></a>", "processing instructions"),
        ] {
            let error = read(text.as_bytes()).expect_err(text);
            assert!(
                matches!(error, XmlError::Refused { what: found, .. } if found == what),
                "{text}"
            );
        }
    }

    #[test]
    fn refuses_what_is_not_well_formed() {
        for text in [
            "",
            "a",
            "<a>",
            "<a></b>",
            "<a/><b/>",
            "<a b=\"1\" b=\"2\"/>",
            "<a b=1/>",
            "<a b=\"<\"/>",
            "<a b=\"1\"c=\"2\"/>",
            "<a>]]></a>",
            "<p:a/>",
            "<a p:b=\"1\"/>",
            "<a xmlns:p=\"\"/>",
            "<a xmlns=\"u\"><b xmlns=\"\"/></a>",
            "<a b=\"\n\"/>",
            "<a>\r</a>",
            "<a>\u{1}</a>",
            "<1a/>",
            "<a:b:c/>",
            "<:a/>",
            "<a xmlns:p=\"u\" xmlns:q=\"u\" p:b=\"1\" q:b=\"2\"/>",
            "<a/>x",
            "<?xml version=\"1.1\"?><a/>",
            "<?xml version=\"1.0\" encoding=\"utf-16\"?><a/>",
        ] {
            assert!(read(text.as_bytes()).is_err(), "{text}");
        }
        assert!(read(b"<a>\xff</a>").is_err());
    }

    #[test]
    fn bounds_depth_nodes_and_length() {
        let deep = |levels: usize| "<a>".repeat(levels) + &"</a>".repeat(levels);
        assert!(read(deep(MAX_DEPTH).as_bytes()).is_ok());
        assert!(read(deep(MAX_DEPTH + 1).as_bytes()).is_err());
        let wide = |nodes: usize| format!("<a>{}</a>", "<b/>".repeat(nodes));
        assert!(read(wide(MAX_NODES - 1).as_bytes()).is_ok());
        assert!(read(wide(MAX_NODES).as_bytes()).is_err());
        assert!(read(&vec![b' '; MAX_XML_BYTES + 1]).is_err());
        let attributes: String = (0..=MAX_ATTRIBUTES).map(|i| format!(" a{i}=\"\"")).collect();
        assert!(read(format!("<a{attributes}/>").as_bytes()).is_err());
    }

    #[test]
    fn resolves_prefixes() {
        let root = read(
            b"<?xml version='1.0' encoding='UTF-8'?>\n<a xmlns='u' xmlns:p='v' c='1' p:c='2'>x&amp;<p:b/>\r\n</a>\n",
        )
        .expect("reads");
        assert!(root.is("u", "a"));
        assert_eq!((root.attribute("c"), root.attribute_of("v", "c")), (Some("1"), Some("2")));
        assert!(root.elements().next().is_some_and(|b| b.is("v", "b")));
        assert_eq!(root.children.first(), Some(&Node::Text("x&".into())));
        assert_eq!(root.children.last(), Some(&Node::Text("\n".into())));
    }
}
