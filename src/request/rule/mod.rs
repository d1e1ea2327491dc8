//! What a field of a body may be.
//!
//! A body is declared once, as a [`Rule`]. `read.rs` checks what clients send by it and fills in the defaults;
//! `schema.rs` makes its JSON schema.

mod read;
mod schema;
pub(super) mod text;

use std::ops::{Range, RangeInclusive};

use serde_json::{Map, Value};

pub(super) use read::Errors;
pub(super) use schema::Components;
pub(super) use text::TextRule;

/// One field of an object.
pub(super) struct Field {
    name: &'static str,
    doc: &'static str,
    rule: Rule,
    absent: Absent,
}

/// What a field means that is left out, or `null`.
pub(super) enum Absent {
    /// An error.
    Required,
    /// The value `null`.
    Null,
    /// This value, which the schema tells.
    Default(Value),
    /// This value, which depends on the server or on the body.
    Computed(Value),
    /// This value where it is left out; an explicit `null` stays.
    UnlessNull(Value),
}

/// What a value may be.
pub(super) enum Rule {
    /// A string.
    Text(TextRule),
    /// `true` or `false`.
    Flag,
    /// A whole number.
    Integer {
        range: RangeInclusive<i128>,
        /// What is counted, for messages; may be empty.
        unit: &'static str,
    },
    /// A number, both bounds included.
    Number(RangeInclusive<f64>),
    /// A number, the upper bound excluded.
    NumberBelow(Range<f64>),
    /// The one list of words that is supported.
    Exactly {
        /// What the schema calls one of them.
        name: &'static str,
        words: Vec<&'static str>,
    },
    /// A list.
    List {
        entry: Box<Self>,
        count: RangeInclusive<usize>,
        is_set: bool,
    },
    /// Pairs of strings under names that the client chooses.
    Pairs {
        key: TextRule,
        value: TextRule,
        most: usize,
    },
    /// An object with these fields and no others.
    Object(Object),
    /// An object whose field `tag` says which other fields it has.
    Tagged {
        tag: &'static str,
        absent: Absent,
        variants: Vec<Variant>,
        /// Those it has whatever the tag says.
        shared: Vec<Field>,
    },
    /// A string that stands for an object.
    Short {
        text: TextRule,
        expand: fn(&str) -> Value,
        full: Box<Self>,
    },
    /// A rule with a name of its own in the schema.
    Named {
        name: &'static str,
        doc: &'static str,
        rule: Box<Self>,
    },
}

/// Fields that belong together.
pub(super) struct Object {
    fields: Vec<Field>,
    check: Option<CrossCheck>,
}

/// A rule about several fields: the object as it came, and as it was read.
///
/// A field that is wrong by itself was read as `null`.
pub(super) type CrossCheck = fn(&Map<String, Value>, &mut Map<String, Value>, &str, &mut Errors);

/// One kind of a tagged object.
pub(super) struct Variant {
    /// Its name in the schema, and what it is.
    named: Option<(&'static str, &'static str)>,
    /// What the tag may say.
    words: Vec<&'static str>,
    /// What the schema calls one of several words.
    words_name: Option<&'static str>,
    object: Object,
}

/// A field that may be left out and is `null` then.
pub(super) fn field(name: &'static str, rule: impl Into<Rule>) -> Field {
    Field {
        name,
        doc: "",
        rule: rule.into(),
        absent: Absent::Null,
    }
}

impl Field {
    /// What the schema says about it.
    pub(super) fn doc(self, doc: &'static str) -> Self {
        Self { doc, ..self }
    }

    pub(super) fn required(self) -> Self {
        self.absent(Absent::Required)
    }

    pub(super) fn or(self, value: impl Into<Value>) -> Self {
        self.absent(Absent::Default(value.into()))
    }

    pub(super) fn or_computed(self, value: impl Into<Value>) -> Self {
        self.absent(Absent::Computed(value.into()))
    }

    pub(super) fn or_unless_null(self, value: impl Into<Value>) -> Self {
        self.absent(Absent::UnlessNull(value.into()))
    }

    fn absent(self, absent: Absent) -> Self {
        Self { absent, ..self }
    }
}

impl Rule {
    pub(super) fn integer(range: RangeInclusive<impl Into<i128>>, unit: &'static str) -> Self {
        let (from, to) = range.into_inner();
        let range = from.into()..=to.into();
        Self::Integer { range, unit }
    }

    pub(super) fn list(entry: impl Into<Self>, most: usize) -> Self {
        Self::List {
            entry: Box::new(entry.into()),
            count: 0..=most,
            is_set: false,
        }
    }

    /// At least one, and each once.
    pub(super) fn some_of(entry: impl Into<Self>) -> Self {
        Self::List {
            entry: Box::new(entry.into()),
            count: 1..=usize::MAX,
            is_set: true,
        }
    }

    pub(super) fn short(text: TextRule, expand: fn(&str) -> Value, full: impl Into<Self>) -> Self {
        let full = Box::new(full.into());
        Self::Short { text, expand, full }
    }

    pub(super) fn named(self, name: &'static str, doc: &'static str) -> Self {
        let rule = Box::new(self);
        Self::Named { name, doc, rule }
    }
}

impl Object {
    pub(super) fn new(fields: Vec<Field>) -> Self {
        Self {
            fields,
            check: None,
        }
    }

    pub(super) fn check(self, check: CrossCheck) -> Self {
        Self {
            check: Some(check),
            ..self
        }
    }
}

impl Variant {
    pub(super) fn new(word: &'static str, object: Object) -> Self {
        Self {
            named: None,
            words: vec![word],
            words_name: None,
            object,
        }
    }

    /// One kind under several words.
    pub(super) fn any_of(name: &'static str, words: Vec<&'static str>, object: Object) -> Self {
        Self {
            named: None,
            words,
            words_name: Some(name),
            object,
        }
    }

    pub(super) fn named(self, name: &'static str, doc: &'static str) -> Self {
        Self {
            named: Some((name, doc)),
            ..self
        }
    }
}

impl From<TextRule> for Rule {
    fn from(text: TextRule) -> Self {
        Self::Text(text)
    }
}

impl From<Object> for Rule {
    fn from(object: Object) -> Self {
        Self::Object(object)
    }
}
