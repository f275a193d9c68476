//! The grammar of filters, which is PostgREST's: text in, its tests and how they are joined out. Pure; knows neither which columns
//! there are nor what an operator means. `rowcast.filter_tests` in SQL reads the same.
//!
//! ```text
//! condition   = column "=" ["not."] operator "." rest
//!             | ["not."] ("or" | "and") "=" group
//! group       = "(" member {"," member} ")"
//! member      = ["not."] ("or" | "and") group
//!             | column "." ["not."] operator "." value
//! ```
//! A column or a value of a group in double quotes holds any character; `\` stands before a quote and before itself.
//! `or=eq.1` is a test of a column that is named `or`: only a parenthesis makes it a group.

use std::borrow::Cow;
use std::ops::Range;

/// So deep groups may lie in each other.
pub const DEPTH: usize = 10;

/// What a text asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ParsedCondition<'a> {
    /// one column
    Test(ColumnTest<'a>),
    /// all of these
    All(Vec<Self>),
    /// one of these at least
    Any(Vec<Self>),
    /// the contrary
    Not(Box<Self>),
}

/// One column, one operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnTest<'a> {
    /// the column
    pub column: Cow<'a, str>,
    /// such as `eq`
    pub operator: &'a str,
    /// what follows; of `in` with its parentheses
    pub operand: Cow<'a, str>,
    /// where it stands in the text, with its quotes
    pub at: Range<usize>,
    /// it stood in quotes, so it is what it says
    pub is_quoted: bool,
    /// it stands in a group, where a value with a comma or a parenthesis needs quotes
    pub is_grouped: bool,
}

impl ColumnTest<'_> {
    /// The claim that stands for the operand: `{name}`, which is all of it.
    pub fn claim(&self) -> Option<&str> {
        let inside = self.operand.strip_prefix('{')?.strip_suffix('}')?;
        (!self.is_quoted).then_some(inside)
    }
}

impl<'a> ParsedCondition<'a> {
    /// Reads one condition.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub fn read(text: &'a str) -> Result<Self, Cow<'static, str>> {
        const FORM: &str = "write it as column=operator.value, such as user_id=eq.123";
        if let Some(at) = group_of(text) {
            let mut reader = Parser { text, at: at.begins };
            let asked = reader.group(at.is_any, 1)?;
            if reader.at < text.len() {
                return Err("something stands behind its last parenthesis".into());
            }
            return Ok(not_if(at.is_not, asked));
        }
        let (column, value) = column_of(text).ok_or(FORM)?;
        let rest = &text[value..];
        let (is_not, begins) = match rest.strip_prefix("not.") {
            Some(_) => (true, value + "not.".len()),
            None => (false, value),
        };
        let (operator, operand) = text[begins..].split_once('.').ok_or(FORM)?;
        let at = text.len() - operand.len()..text.len();
        let operand = Cow::Borrowed(operand);
        let test = ColumnTest { column, operator, operand, at, is_quoted: false, is_grouped: false };
        Ok(not_if(is_not, Self::Test(test)))
    }

    /// Its tests, in their order.
    pub fn tests(&self) -> Vec<&ColumnTest<'a>> {
        let mut tests = Vec::new();
        self.collect(&mut tests);
        tests
    }

    fn collect<'t>(&'t self, tests: &mut Vec<&'t ColumnTest<'a>>) {
        match self {
            Self::Test(test) => tests.push(test),
            Self::All(all) | Self::Any(all) => all.iter().for_each(|asked| asked.collect(tests)),
            Self::Not(asked) => asked.collect(tests),
        }
    }
}

/// The conditions of a policy's row filter, between which stands `&`: one that stands in quotes, in a group or as the name of a
/// column, is a character as any other.
pub fn split(filter: &str) -> Vec<&str> {
    let mut conditions = Vec::new();
    let mut rest = filter;
    loop {
        let begins = match group_of(rest) {
            Some(at) => {
                let mut reader = Parser { text: rest, at: at.begins };
                // what cannot be read is refused as a whole
                reader.group(at.is_any, 1).map_or(0, |_| reader.at)
            }
            None => {
                quoted_at(rest, 0).filter(|(_, after)| rest[*after..].starts_with('=')).map_or(0, |(_, after)| after)
            }
        };
        match rest[begins..].find('&') {
            Some(at) => {
                conditions.push(&rest[..begins + at]);
                rest = &rest[begins + at + 1..];
            }
            None => {
                conditions.push(rest);
                return conditions;
            }
        }
    }
}

/// A value as a group may hold it, whatever is in it.
pub fn quoted(value: &str) -> String {
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
}

fn not_if(is_not: bool, asked: ParsedCondition<'_>) -> ParsedCondition<'_> {
    if is_not { ParsedCondition::Not(Box::new(asked)) } else { asked }
}

/// `or=(`, `not.and=(` and the like.
struct Group {
    is_not: bool,
    is_any: bool,
    /// where its parenthesis stands
    begins: usize,
}

fn group_of(text: &str) -> Option<Group> {
    let (is_not, rest) = text.strip_prefix("not.").map_or((false, text), |rest| (true, rest));
    let (is_any, rest) = match rest.strip_prefix("or=") {
        Some(rest) => (true, rest),
        None => (false, rest.strip_prefix("and=")?),
    };
    let rest = rest.trim_start_matches(BLANKS);
    rest.starts_with('(').then_some(Group { is_not, is_any, begins: text.len() - rest.len() })
}

/// A column in front of `=`, and where what follows begins.
fn column_of(text: &str) -> Option<(Cow<'_, str>, usize)> {
    if let Some((name, after)) = quoted_at(text, 0)
        && text[after..].starts_with('=')
    {
        return Some((name, after + 1));
    }
    let at = text.find('=')?;
    Some((text[..at].into(), at + 1))
}

/// What stands in quotes, and where it ends.
fn quoted_at(text: &str, at: usize) -> Option<(Cow<'_, str>, usize)> {
    let inside = text[at..].strip_prefix('"')?;
    let begins = at + 1;
    let mut value = Cow::Borrowed("");
    let mut chars = inside.char_indices();
    while let Some((i, c)) = chars.next() {
        match c {
            '"' => {
                if let Cow::Borrowed(_) = value {
                    value = inside[..i].into();
                }
                return Some((value, begins + i + 1));
            }
            '\\' => {
                if let Cow::Borrowed(_) = value {
                    value = Cow::Owned(inside[..i].to_owned());
                }
                value.to_mut().push(chars.next()?.1);
            }
            other => {
                if let Cow::Owned(value) = &mut value {
                    value.push(other);
                }
            }
        }
    }
    None
}

const BLANKS: [char; 2] = [' ', '\t'];

/// Goes through a text whose groups it reads.
struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn skip_blanks(&mut self) {
        self.at = self.text.len() - self.rest().trim_start_matches(BLANKS).len();
    }

    /// Takes a character, with the blanks around it.
    fn takes(&mut self, c: char) -> bool {
        self.skip_blanks();
        let is_there = self.rest().starts_with(c);
        if is_there {
            self.at += c.len_utf8();
            self.skip_blanks();
        }
        is_there
    }

    fn group(&mut self, is_any: bool, depth: usize) -> Result<ParsedCondition<'a>, Cow<'static, str>> {
        if depth > DEPTH {
            return Err(format!("groups lie in each other more than {DEPTH} deep").into());
        }
        const FORM: &str =
            "a group is or=(a.eq.1,b.gt.2) or and=(…), with values that hold a comma or a parenthesis in double quotes";
        if !self.takes('(') {
            return Err(FORM.into());
        }
        let mut members = Vec::new();
        loop {
            members.push(self.member(depth)?);
            if self.takes(')') {
                return Ok(if is_any { ParsedCondition::Any(members) } else { ParsedCondition::All(members) });
            }
            if !self.takes(',') {
                return Err(FORM.into());
            }
        }
    }

    fn member(&mut self, depth: usize) -> Result<ParsedCondition<'a>, Cow<'static, str>> {
        if let Some((is_not, is_any, begins)) = self.group_ahead() {
            self.at = begins;
            return Ok(not_if(is_not, self.group(is_any, depth + 1)?));
        }
        const FORM: &str = "in a group write column.operator.value, such as or=(user_id.eq.123,open.is.true)";
        let column = match quoted_at(self.text, self.at) {
            Some((name, after)) => {
                self.at = after;
                self.skip_blanks();
                name
            }
            None => {
                let length = self.rest().find(['.', ',', '(', ')', '"']).ok_or(FORM)?;
                let name = self.rest()[..length].trim_matches(BLANKS);
                self.at += length;
                name.into()
            }
        };
        if column.is_empty() || !self.rest().starts_with('.') {
            return Err(FORM.into());
        }
        self.at += 1;
        let is_not = self.rest().starts_with("not.");
        if is_not {
            self.at += "not.".len();
        }
        let length = self.rest().find(['.', ',', '(', ')', '"']).ok_or(FORM)?;
        let operator = &self.rest()[..length];
        self.at += length;
        if operator.is_empty() || !self.rest().starts_with('.') {
            return Err(FORM.into());
        }
        self.at += 1;
        let begins = self.at;
        let (operand, is_quoted) = if operator == "in" { self.list()? } else { self.value() };
        let at = begins..self.at;
        let test = ColumnTest { column, operator, operand, at, is_quoted, is_grouped: true };
        Ok(not_if(is_not, ParsedCondition::Test(test)))
    }

    /// Whether a group begins here: `or(`, `not.and(`; whether it is the contrary, whether it is `or`, and where its parenthesis
    /// stands. A column may be named so too: a dot follows then.
    fn group_ahead(&self) -> Option<(bool, bool, usize)> {
        let rest = self.rest();
        let (is_not, rest) = rest.strip_prefix("not.").map_or((false, rest), |rest| (true, rest));
        let (is_any, rest) = match rest.strip_prefix("or") {
            Some(rest) => (true, rest),
            None => (false, rest.strip_prefix("and")?),
        };
        let rest = rest.trim_start_matches(BLANKS);
        rest.starts_with('(').then_some((is_not, is_any, self.text.len() - rest.len()))
    }

    /// Up to what ends a member: in quotes, in braces, or as it is.
    fn value(&mut self) -> (Cow<'a, str>, bool) {
        // blanks in front of what ends a member do not count
        let ends = |at: usize| {
            let rest = self.text[at..].trim_start_matches(BLANKS);
            rest.is_empty() || rest.starts_with([',', ')'])
        };
        if let Some((value, after)) = quoted_at(self.text, self.at).filter(|(_, after)| ends(*after)) {
            self.at = after;
            return (value, true);
        }
        let rest = self.rest();
        let in_braces = rest.strip_prefix('{').and_then(|inside| {
            let length = inside.find(['{', '}'])?;
            inside[length..].starts_with('}').then_some(length + 2)
        });
        let up_to_end = || rest[..rest.find([',', ')']).unwrap_or(rest.len())].trim_end_matches(BLANKS).len();
        let length = in_braces.unwrap_or_else(up_to_end);
        self.at += length;
        (rest[..length].into(), false)
    }

    /// `(1,2,"a,b")`, or what stands in the place of a list, such as a claim.
    fn list(&mut self) -> Result<(Cow<'a, str>, bool), Cow<'static, str>> {
        let begins = self.at;
        if !self.rest().starts_with('(') {
            return Ok(self.value());
        }
        self.at += 1;
        loop {
            match quoted_at(self.text, self.at) {
                Some((_, after)) => self.at = after,
                None => self.at += self.rest().find([',', ')']).unwrap_or(self.rest().len()),
            }
            match self.rest().chars().next() {
                Some(',') => self.at += 1,
                Some(')') => {
                    self.at += 1;
                    return Ok((self.text[begins..self.at].into(), false));
                }
                _ => return Err("in takes a list: in.(1,2,3), with values that hold a comma in double quotes".into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As text in one form: what is joined by what, and by which columns, operators and values.
    fn shown(asked: &ParsedCondition<'_>) -> String {
        let all = |all: &[ParsedCondition<'_>]| all.iter().map(shown).collect::<Vec<_>>().join(" ");
        match asked {
            ParsedCondition::Test(test) => format!("<{}|{}|{}>", test.column, test.operator, test.operand),
            ParsedCondition::All(members) => format!("all[{}]", all(members)),
            ParsedCondition::Any(members) => format!("any[{}]", all(members)),
            ParsedCondition::Not(asked) => format!("not {}", shown(asked)),
        }
    }

    #[test]
    fn filters_are_read_as_postgrest_reads_them() {
        for (text, expected) in [
            ("a=eq.1", "<a|eq|1>"),
            ("a=eq.x,(y).z", "<a|eq|x,(y).z>"),
            ("a=not.in.(1,2)", "not <a|in|(1,2)>"),
            ("or=(a.eq.1,b.gt.2)", "any[<a|eq|1> <b|gt|2>]"),
            ("not.or=(a.eq.1,b.gt.2)", "not any[<a|eq|1> <b|gt|2>]"),
            (
                "or=(a.eq.1,and(b.gt.2,c.is.null),not.or(d.eq.1,e.eq.2))",
                "any[<a|eq|1> all[<b|gt|2> <c|is|null>] not any[<d|eq|1> <e|eq|2>]]",
            ),
            ("and=(a.not.eq.1, b . eq.2 )", "all[not <a|eq|1> "),
            ("or=(a.in.(1,\"x,)\",2),b.eq.3)", "any[<a|in|(1,\"x,)\",2)> <b|eq|3>]"),
            (r#"or=(a.eq."x,\"y\"(z).\\",b.eq.)"#, r#"any[<a|eq|x,"y"(z).\> <b|eq|>]"#),
            ("or=(price.gte.1.50,a.eq.f(x)", "any[<price|gte|1.50> <a|eq|f(x>]"),
            ("or=(a.eq.{1,2},b.eq.1)", "any[<a|eq|{1,2}> <b|eq|1>]"),
            // columns of such names
            ("or=eq.1", "<or|eq|1>"),
            ("not=not.eq.1", "not <not|eq|1>"),
            ("\"or\"=eq.(1)", "<or|eq|(1)>"),
            ("\"a=b\"=eq.1", "<a=b|eq|1>"),
            (
                "or=(or.eq.1,and.not.eq.2,not.eq.3,not.not.eq.4)",
                "any[<or|eq|1> not <and|eq|2> <not|eq|3> not <not|eq|4>]",
            ),
            ("or=(\"a.b\".eq.1,\"c\\\"\".eq.2)", "any[<a.b|eq|1> <c\"|eq|2>]"),
            ("or= ( a.eq.1 , or (b.eq.2) )", ""),
            (r#"or=(a.eq.x , b.neq."y" )"#, r#"any[<a|eq|x> <b|neq|y>]"#),
            (r#"and=(a.eq."x" y,b.eq.1)"#, r#"all[<a|eq|"x" y> <b|eq|1>]"#),
        ] {
            let read = ParsedCondition::read(text);
            match read {
                Ok(asked) if !expected.is_empty() => {
                    assert!(shown(&asked).starts_with(expected), "{text}: {}", shown(&asked));
                }
                Ok(_) => {}
                Err(_) => assert!(expected == "all[not <a|eq|1> ", "{text}: {read:?}"),
            }
        }
        for text in [
            "or=()",
            "or=(a.eq.1",
            "or=(a.eq.1)x",
            "or=(a)",
            "or=(a.eq)",
            "or=(a.eq.1,)",
            "or=(a.eq.1)(b.eq.2)",
            "or=(xor(a.eq.1))",
            "or=(a.in.1,2)",
            "or=(a.eq.{x}y)",
            "or=(a.eq.\"x\"y",
            "a",
            "a=1",
            "or=(not.not.or(a.eq.1))",
            "or=(.eq.1)",
        ] {
            assert!(ParsedCondition::read(text).is_err(), "{text}: {:?}", ParsedCondition::read(text));
        }
        let deep = |depth: usize| format!("or={}a.eq.1{}", "(or".repeat(depth - 1) + "(", ")".repeat(depth));
        assert!(ParsedCondition::read(&deep(DEPTH)).is_ok() && ParsedCondition::read(&deep(DEPTH + 1)).is_err());
    }

    #[test]
    fn a_row_filter_is_divided_where_no_quotes_are() {
        assert_eq!(split("a=eq.1&b=in.(x,y)"), ["a=eq.1", "b=in.(x,y)"]);
        assert_eq!(
            split("or=(a.eq.\"x&y\",b.eq.1)&c=eq.\"1&d=eq.2"),
            ["or=(a.eq.\"x&y\",b.eq.1)", "c=eq.\"1", "d=eq.2"]
        );
        assert_eq!(split("\"a&b\"=eq.1&c=eq.2"), ["\"a&b\"=eq.1", "c=eq.2"]);
        assert_eq!(split("a=eq.1&"), ["a=eq.1", ""]);
    }

    proptest! {
        /// Whatever a value is: in quotes it is that value, and nothing else.
        #[test]
        fn what_stands_in_quotes_stays_one_value(value in "[a(),.\"\\\\{}&= ]{0,12}|\\PC{0,12}") {
            let text = format!("or=(a.eq.{},not.and(b.gt.{}))", quoted(&value), quoted(&value));
            let asked = ParsedCondition::read(&text).unwrap();
            let tests = asked.tests();
            prop_assert_eq!(tests.len(), 2);
            for test in tests {
                prop_assert_eq!(&*test.operand, &*value);
                prop_assert_eq!(&text[test.at.clone()], quoted(&value));
            }
            let filter = format!("{text}&c=eq.1");
            prop_assert_eq!(split(&filter), [&*text, "c=eq.1"]);
        }

        #[test]
        fn no_text_makes_it_panic(text in "(not[.])?(or|and)=[a-c().,\"\\\\{} ]{0,20}|\\PC{0,30}") {
            let _ = ParsedCondition::read(&text);
            prop_assert_eq!(split(&text).join("&"), text);
        }
    }
}
