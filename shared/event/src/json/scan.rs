//! Finds the members of a body's root object and the elements of its array of events by brackets, strings and
//! commas alone, on any bytes. So one broken event does not hide its neighbors, nor the key of its batch.
//!
//! On valid JSON the result is exact. On anything else it is the most likely reading, and every element still
//! has to be parsed. A scan is one pass without recursion, and at most nine passes are made. This module
//! must never decide that bytes are valid JSON.

use std::ops::Range;

use super::open_string::{StringEnd, before_brackets, before_next_item};
use super::readings::{Faults, Quotes, Rules, STRICT, StrayBracket, by_rules};
use super::repair::repaired;

/// The parts of a body.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Outline {
    /// The array of events: the root, or the value of the envelope's member.
    pub events: Option<Elements>,
    /// Whether the root is an object.
    pub is_object: bool,
    /// How many members of the root object have the envelope's name.
    pub envelopes: usize,
}

/// The elements of an array of events.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Elements {
    /// From after the opening bracket to the closing one.
    pub inside: Range<usize>,
    /// The bytes of each element, without white space around it: at most as many as asked for.
    pub ranges: Vec<Range<usize>>,
    /// All elements. A comma before the closing bracket has no element after it.
    pub count: usize,
}

/// Finds the events of a body. `envelope` names the member of a root object that holds the array of events; a
/// root array is taken as it is. At most `ranges_max` elements are returned, and all are counted.
///
/// `None` when the brackets around the events do not close, as in a body that was cut off.
pub fn outline(body: &[u8], envelope: Option<&str>, ranges_max: usize) -> Option<Outline> {
    by_rules(|rules, faults| {
        let mut scanner = Scanner::new(body, rules);
        let outline = scanner.root(envelope, ranges_max, |_, _| {});
        *faults = scanner.faults;
        outline
    })
}

/// The last member of the root object with this name, as it is written. Everything else in the body may be
/// broken, or cut off. `envelope` names the member that holds the events, which are read one by one.
pub fn root_member<'a>(body: &'a [u8], name: &str, envelope: Option<&str>) -> Option<&'a [u8]> {
    let mut first_found = None;
    let complete = by_rules(|rules, faults| {
        let mut scanner = Scanner::new(body, rules);
        let mut found = None;
        let outline = scanner.root(envelope, 0, |found_name, value| {
            if is_name(&body[found_name], name) {
                found = Some(&body[value]);
            }
        });
        *faults = scanner.faults;
        first_found = first_found.or(found);
        outline.map(|_| found)
    });
    complete.unwrap_or(first_found)
}

/// The strings that are values of members with this name, at any depth, without their quotes. A string that
/// does not end reaches to the end of the text.
pub fn strings_of_members(raw: &[u8], name: &str) -> Vec<Range<usize>> {
    let scanner = Scanner::new(raw, STRICT);
    let (mut found, mut at) = (Vec::new(), 0);
    while let Some(quote) = raw.get(at..).and_then(|rest| memchr::memchr(b'"', rest)) {
        let start = at + quote;
        at = scanner.string_end(start).map_or(raw.len(), StringEnd::offset);
        if !is_name(&raw[start..at], name) {
            continue;
        }
        let colon = skip_space(raw, at);
        let value = skip_space(raw, colon + 1);
        if raw.get(colon) == Some(&b':') && raw.get(value) == Some(&b'"') {
            let end = scanner.string_end(value).map(StringEnd::offset);
            found.push(value + 1..end.map_or(raw.len(), |end| end - 1));
            at = end.unwrap_or(raw.len());
        }
    }
    found
}

/// Whether a string, with its quotes, is this text.
fn is_name(quoted: &[u8], name: &str) -> bool {
    if !quoted.contains(&b'\\') {
        return quoted.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")) == Some(name.as_bytes());
    }
    // The longest spelling escapes every UTF-16 unit.
    quoted.len() <= name.len() * 6 + 2 && unescaped(quoted).is_some_and(|text| text == name)
}

/// The text of a string, from its bytes with quotes. `None` when they are no string.
pub fn unescaped(quoted: &[u8]) -> Option<String> {
    serde_json::from_slice(&repaired(quoted)).ok()
}

fn skip_space(raw: &[u8], mut at: usize) -> usize {
    while raw.get(at).is_some_and(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r')) {
        at += 1;
    }
    at
}

struct Scanner<'a> {
    raw: &'a [u8],
    at: usize,
    rules: Rules,
    faults: Faults,
    /// The brackets that are open inside the current item, and how many of them are `{`.
    open: Vec<u8>,
    braces: usize,
}

impl<'a> Scanner<'a> {
    fn new(raw: &'a [u8], rules: Rules) -> Self {
        Self { raw, at: 0, rules, faults: Faults::default(), open: Vec::new(), braces: 0 }
    }

    fn peek(&mut self) -> Option<u8> {
        self.at = skip_space(self.raw, self.at);
        self.raw.get(self.at).copied()
    }

    /// Scans the whole body. `None` when its root does not close exactly at its end.
    fn root(
        &mut self,
        envelope: Option<&str>,
        ranges_max: usize,
        member: impl FnMut(Range<usize>, Range<usize>),
    ) -> Option<Outline> {
        let outline = match self.peek()? {
            b'[' => Outline { events: Some(self.elements(ranges_max)?), ..Outline::default() },
            b'{' => self.members(envelope, ranges_max, member)?,
            _ => return None,
        };
        // A body that was cut off ends in an open string, too, but not with exactly the brackets that are
        // open.
        let Faults { was_body_completed, was_bracket_stray, was_bracket_missing, .. } = self.faults;
        let is_cut_off = was_body_completed && (was_bracket_stray || was_bracket_missing);
        (self.peek().is_none() && !is_cut_off).then_some(outline)
    }

    /// Scans an object, and passes the ranges of each member's name and value.
    fn members(
        &mut self,
        envelope: Option<&str>,
        ranges_max: usize,
        mut member: impl FnMut(Range<usize>, Range<usize>),
    ) -> Option<Outline> {
        let mut outline = Outline { is_object: true, ..Outline::default() };
        self.at += 1;
        loop {
            let name = self.name()?;
            self.peek()?;
            let start = self.at;
            if let (Some(name), Some(envelope)) = (&name, envelope)
                && is_name(&self.raw[name.clone()], envelope)
            {
                outline.envelopes += 1;
                if self.raw[self.at] == b'[' {
                    outline.events = Some(self.elements(ranges_max)?);
                }
            }
            let ends_with = self.skip_item(b'{')?;
            if let Some(name) = name {
                member(name, start..start + self.raw[start..self.at].trim_ascii_end().len());
            }
            self.at += 1;
            if ends_with == b'}' {
                return Some(outline);
            }
        }
    }

    /// A member's name and its colon. The inner `None` is a member without them.
    fn name(&mut self) -> Option<Option<Range<usize>>> {
        if self.peek()? != b'"' {
            return Some(None);
        }
        let start = self.at;
        self.skip_string()?;
        let name = start..self.at;
        if self.peek()? != b':' {
            return Some(None);
        }
        self.at += 1;
        Some(Some(name))
    }

    /// Scans an array, from its opening bracket to after its closing one.
    fn elements(&mut self, ranges_max: usize) -> Option<Elements> {
        self.at += 1;
        let mut elements = Elements { inside: self.at..self.at, ..Elements::default() };
        loop {
            self.peek()?;
            let start = self.at;
            let ends_with = self.skip_item(b'[')?;
            let range = start..start + self.raw[start..self.at].trim_ascii_end().len();
            if !range.is_empty() || ends_with == b',' {
                elements.count += 1;
                if elements.ranges.len() < ranges_max {
                    elements.ranges.push(range);
                }
            }
            self.at += 1;
            if ends_with == b']' {
                elements.inside.end = self.at - 1;
                return Some(elements);
            }
        }
    }

    /// Skips an element or a member's value, up to the comma or the bracket that ends it, which is returned.
    /// `parent` is the bracket that opened the container.
    fn skip_item(&mut self, parent: u8) -> Option<u8> {
        self.open.clear();
        self.braces = 0;
        while let Some(&byte) = self.raw.get(self.at) {
            match byte {
                b'"' => {
                    self.skip_string()?;
                    continue;
                }
                b'{' | b'[' => {
                    self.braces += usize::from(byte == b'{');
                    self.open.push(byte);
                }
                b'}' | b']' if self.closes_item(byte, parent) => return Some(byte),
                b',' if self.comma_ends_item(parent) => return Some(byte),
                _ => {}
            }
            self.at += 1;
        }
        None
    }

    /// Whether a closing bracket ends the item. Otherwise it closes what it can close in the item.
    fn closes_item(&mut self, byte: u8, parent: u8) -> bool {
        let opening = if byte == b'}' { b'{' } else { b'[' };
        let has_opening = if opening == b'{' { self.braces > 0 } else { self.open.len() > self.braces };
        if has_opening {
            // Brackets that were left open end with the one around them.
            while let Some(open) = self.open.pop() {
                self.braces -= usize::from(open == b'{');
                if open == opening {
                    break;
                }
                self.faults.was_bracket_missing = true;
            }
            return false;
        }
        if self.open.is_empty() && opening == parent {
            return true;
        }
        self.faults.was_bracket_stray = true;
        match self.rules.stray_bracket {
            StrayBracket::IsSkipped => {}
            StrayBracket::ClosesInnermost => self.braces -= usize::from(self.open.pop() == Some(b'{')),
            StrayBracket::ClosesContainer => return opening == parent,
        }
        false
    }

    /// Whether a comma ends the item. An object has no member without a name, so objects that are open before
    /// `,{` were never closed. An array has no member with a name, so one that is open before `,"name":` is
    /// inside of an object that was closed too early.
    fn comma_ends_item(&mut self, parent: u8) -> bool {
        if self.open.is_empty() {
            return parent == b'{' || !self.is_name(skip_space(self.raw, self.at + 1));
        }
        if self.open.last() == Some(&b'{') && self.raw.get(skip_space(self.raw, self.at + 1)) == Some(&b'{') {
            let in_array = parent == b'[' || self.open.len() > self.braces;
            while in_array && self.open.last() == Some(&b'{') {
                self.open.pop();
                self.braces -= 1;
                self.faults.was_bracket_missing = true;
            }
        }
        self.open.is_empty()
    }

    /// Whether a name and its colon are at this offset.
    fn is_name(&self, at: usize) -> bool {
        let end = if self.raw.get(at) == Some(&b'"') { self.string_end(at) } else { None };
        end.is_some_and(|end| self.raw.get(skip_space(self.raw, end.offset())) == Some(&b':'))
    }

    fn skip_string(&mut self) -> Option<()> {
        match self.string_end(self.at) {
            Some(end) => {
                self.faults.was_body_completed |= matches!(end, StringEnd::Body(_));
                self.at = end.offset();
                Some(())
            }
            None => {
                self.faults.is_string_open = true;
                None
            }
        }
    }

    /// The end of the string that starts at this quote. `None` when it does not end.
    fn string_end(&self, start: usize) -> Option<StringEnd> {
        let mut at = start + 1;
        loop {
            let rest = self.raw.get(at..).unwrap_or_default();
            let Some(found) = memchr::memchr2(b'"', b'\\', rest) else {
                let length =
                    before_brackets(&self.raw[start..]).filter(|_| self.rules.quotes == Quotes::Checked)?;
                return Some(StringEnd::Body(start + length));
            };
            at += found;
            if self.raw[at] == b'\\' {
                at += 2;
                continue;
            }
            let next = self.raw.get(skip_space(self.raw, at + 1));
            if next.is_none_or(|next| b",:]}".contains(next)) {
                return Some(StringEnd::Quote(at + 1));
            }
            if self.rules.quotes != Quotes::Counted
                && let Some(length) = before_next_item(&self.raw[start..at])
            {
                return (self.rules.quotes == Quotes::Checked).then_some(StringEnd::Item(start + length));
            }
            at += 1;
            if self.rules.quotes != Quotes::Checked {
                return Some(StringEnd::Quote(at));
            }
        }
    }
}
