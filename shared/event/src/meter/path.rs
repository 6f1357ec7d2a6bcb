//! Paths to values of an event: where a meter finds its value and its groups.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use crate::json;
use crate::row::Row;

/// Members of one path, at most.
const DEPTH_MAX: usize = 8;
/// Bytes of a path, at most.
const LENGTH_MAX: usize = 200;

/// The part of an event that a path begins with.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Source {
    Properties,
    Context,
    Subject,
    Name,
    ClientId,
}

/// A path to one value: `$.tokens` and `$.usage.total` in the properties, `context.library.name` in the
/// context, or the column `subject`, `name` or `client_id`. A member whose name is no word is written in
/// quotes: `$['a b']`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Path {
    source: Source,
    /// Empty for a column.
    members: Vec<String>,
}

/// What is at a path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Found<'a> {
    /// Nothing, or `null`.
    Nothing,
    /// A JSON number, as it is written.
    Number(&'a [u8]),
    Text(Cow<'a, str>),
    Boolean(bool),
    /// An object or an array.
    Container,
}

/// Why a text is no path.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "{text:?} is no path: {fault}; write $.NAME for a property, context.NAME, or subject, name or client_id"
)]
pub struct PathError {
    text: String,
    fault: &'static str,
}

impl Path {
    pub fn source(&self) -> Source {
        self.source
    }

    /// Finds the value of an event.
    pub fn find<'a>(&self, event: &Row<'a>) -> Found<'a> {
        let column =
            |text: Option<&'a str>| text.map_or(Found::Nothing, |text| Found::Text(Cow::Borrowed(text)));
        let json = match self.source {
            Source::Subject => return column(event.subject),
            Source::Name => return column(Some(event.name)),
            Source::ClientId => return column(event.client_id),
            Source::Properties => event.properties,
            Source::Context => event.context,
        };
        let at = |object: Option<&'a [u8]>, name: &String| json::root_member(object?, name, None);
        self.members.iter().fold(json, at).map_or(Found::Nothing, found)
    }

    /// The path below its source in the language of PostgreSQL's `jsonpath`. `None` for a column.
    pub fn jsonpath(&self) -> Option<String> {
        let mut path = match self.source {
            Source::Properties | Source::Context => "strict $".to_owned(),
            Source::Subject | Source::Name | Source::ClientId => return None,
        };
        for member in &self.members {
            // A string of jsonpath is written as one of JSON.
            path.push_str(&format!(".{}", serde_json::Value::from(member.as_str())));
        }
        Some(path)
    }
}

fn found(written: &[u8]) -> Found<'_> {
    match written.first() {
        Some(b'"') => json::unescaped(written).map_or(Found::Nothing, |text| Found::Text(text.into())),
        Some(b'{' | b'[') => Found::Container,
        Some(b't') => Found::Boolean(true),
        Some(b'f') => Found::Boolean(false),
        Some(b'n') | None => Found::Nothing,
        Some(_) => Found::Number(written),
    }
}

impl FromStr for Path {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        let error = |fault| PathError { text: text.chars().take(LENGTH_MAX).collect(), fault };
        if text.len() > LENGTH_MAX {
            return Err(error("it is longer than 200 bytes"));
        }
        let (source, rest) = match text {
            "subject" => (Source::Subject, ""),
            "name" => (Source::Name, ""),
            "client_id" => (Source::ClientId, ""),
            _ => {
                let in_properties = text.strip_prefix('$').or_else(|| text.strip_prefix("properties"));
                match (in_properties, text.strip_prefix("context")) {
                    (Some(rest), _) => (Source::Properties, rest),
                    (None, Some(rest)) => (Source::Context, rest),
                    (None, None) => return Err(error("it names no part of an event")),
                }
            }
        };
        let members = members(rest).map_err(error)?;
        match (members.len(), source) {
            (0, Source::Properties | Source::Context) => Err(error("it names no member")),
            (found, _) if found > DEPTH_MAX => Err(error("it is deeper than 8 members")),
            _ => Ok(Self { source, members }),
        }
    }
}

/// The members of `.a.b['c d']`.
fn members(mut rest: &str) -> Result<Vec<String>, &'static str> {
    let mut members = Vec::new();
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('.') {
            let end = after.find(['.', '[']).unwrap_or(after.len());
            let (name, after) = after.split_at(end);
            if name.is_empty() || !name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '$')) {
                return Err("a name that is no word stands in quotes, as in $['a b']");
            }
            members.push(name.to_owned());
            rest = after;
        } else if let Some((quote, after)) =
            ['\'', '"'].iter().find_map(|quote| Some((*quote, rest.strip_prefix('[')?.strip_prefix(*quote)?)))
        {
            let end = after.find(quote).ok_or("a quote does not end")?;
            members.push(after[..end].to_owned());
            rest = after[end + 1..].strip_prefix(']').ok_or("a bracket does not end")?;
        } else {
            return Err(
                "after a name comes a point or a name in brackets and quotes; elements of arrays have no path",
            );
        }
    }
    Ok(members)
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.source {
            Source::Properties => "$",
            Source::Context => "context",
            Source::Subject => "subject",
            Source::Name => "name",
            Source::ClientId => "client_id",
        })?;
        for member in &self.members {
            let is_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '$');
            match member {
                word if !word.is_empty() && word.chars().all(is_word) => write!(f, ".{word}")?,
                other if other.contains('\'') => write!(f, "[\"{other}\"]")?,
                other => write!(f, "['{other}']")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::plan::ProjectId;

    fn find<'a>(path: &str, properties: &'a str) -> Found<'a> {
        let row = Row::bare(ProjectId(1), Uuid::nil(), "call");
        let context = Some(&br#"{"library":{"name":"lib"}}"#[..]);
        let row = Row { subject: Some("acme"), properties: Some(properties.as_bytes()), context, ..row };
        path.parse::<Path>().unwrap().find(&row)
    }

    #[test]
    fn a_path_finds_its_value_in_its_part_of_the_event() {
        let properties =
            r#"{ "tokens" : 12.50, "a b":{"c":"d\u0065"}, "list":[1], "none":null, "yes":true }"#;
        for (path, value) in [
            ("$.tokens", Found::Number(b"12.50")),
            ("properties.tokens", Found::Number(b"12.50")),
            ("$['a b'].c", Found::Text("de".into())),
            ("$[\"a b\"]['c']", Found::Text("de".into())),
            ("$.list", Found::Container),
            ("$['a b']", Found::Container),
            ("$.none", Found::Nothing),
            ("$.yes", Found::Boolean(true)),
            ("$.absent.deeper", Found::Nothing),
            ("$.tokens.deeper", Found::Nothing),
            ("$.list.deeper", Found::Nothing),
            ("context.library.name", Found::Text("lib".into())),
            ("subject", Found::Text("acme".into())),
            ("name", Found::Text("call".into())),
            ("client_id", Found::Nothing),
        ] {
            assert_eq!(find(path, properties), value, "{path}");
        }
    }

    #[test]
    fn a_path_reads_as_it_is_written() {
        for path in ["$.tokens", "$.a-b.c_d", "$['a b'].c", "$[\"it's\"]", "context.library.name", "subject"]
        {
            assert_eq!(path.parse::<Path>().unwrap().to_string(), path);
        }
        assert_eq!("properties.a".parse::<Path>().unwrap().to_string(), "$.a");
    }

    #[test]
    fn what_is_no_path_is_refused_with_the_reason() {
        for (text, fault) in [
            ("tokens", "names no part"),
            ("$", "names no member"),
            ("$.", "in quotes"),
            ("$.a b", "in quotes"),
            ("$.a[0]", "arrays have no path"),
            ("$['a", "quote does not end"),
            ("$['a'", "bracket does not end"),
            ("$.a.b.c.d.e.f.g.h.i", "deeper than 8"),
            ("subject.a", "names no part"),
        ] {
            let error = text.parse::<Path>().unwrap_err().to_string();
            assert!(error.contains(fault), "{text}: {error}");
        }
    }

    #[test]
    fn a_path_in_the_language_of_the_database_quotes_its_members() {
        let jsonpath = |text: &str| text.parse::<Path>().unwrap().jsonpath();
        assert_eq!(jsonpath("$['a \"b'].c").as_deref(), Some(r#"strict $."a \"b"."c""#));
        assert_eq!(jsonpath("subject"), None);
    }
}
