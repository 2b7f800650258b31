//! A document after reading: elements with their namespaces resolved, and text.

/// Namespace of XML signatures.
pub(crate) const DSIG: &str = "http://www.w3.org/2000/09/xmldsig#";

/// A name with its prefix, and the namespace that the prefix stands for (empty for none).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Name {
    pub(crate) prefix: String,
    pub(crate) local: String,
    pub(crate) namespace: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attribute {
    pub(crate) name: Name,
    pub(crate) value: String,
}

/// `xmlns:prefix="uri"`, or with an empty prefix `xmlns="uri"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Declaration {
    pub(crate) prefix: String,
    pub(crate) uri: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Element {
    pub(crate) name: Name,
    pub(crate) declarations: Vec<Declaration>,
    pub(crate) attributes: Vec<Attribute>,
    pub(crate) children: Vec<Node>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Node {
    Element(Element),
    Text(String),
}

impl Element {
    pub(crate) fn is(&self, namespace: &str, local: &str) -> bool {
        self.name.namespace == namespace && self.name.local == local
    }

    pub(crate) fn elements(&self) -> impl Iterator<Item = &Self> {
        self.children.iter().filter_map(|node| match node {
            Node::Element(element) => Some(element),
            Node::Text(_) => None,
        })
    }

    /// An attribute without a prefix.
    pub(crate) fn attribute(&self, local: &str) -> Option<&str> {
        self.attribute_of("", local)
    }

    pub(crate) fn attribute_of(&self, namespace: &str, local: &str) -> Option<&str> {
        self.attributes
            .iter()
            .find(|attribute| {
                attribute.name.namespace == namespace && attribute.name.local == local
            })
            .map(|attribute| attribute.value.as_str())
    }

    /// The text of an element that has nothing else.
    pub(crate) fn text(&self) -> Option<&str> {
        match self.children.as_slice() {
            [] => Some(""),
            [Node::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// Whether there is nothing but white space between its elements.
    pub(crate) fn has_elements_only(&self) -> bool {
        self.children.iter().all(|node| match node {
            Node::Element(_) => true,
            Node::Text(text) => text.bytes().all(|byte| matches!(byte, b' ' | b'\n' | b'\t')),
        })
    }

    /// How many elements in here, itself included, `matches` holds for.
    pub(crate) fn count(&self, matches: &dyn Fn(&Self) -> bool) -> usize {
        usize::from(matches(self))
            + self.elements().map(|element| element.count(matches)).sum::<usize>()
    }
}
