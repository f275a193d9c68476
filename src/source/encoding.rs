//! Text of a database that is not in UTF-8. Owns how its bytes become text, and back; knows no column and no row.
//!
//! Where a server is asked to convert, one byte that has no meaning fails the whole statement, and with it every row
//! that was read beside it. So the sessions that read rows take the server's bytes as they are, and what has no meaning
//! becomes U+FFFD, as in a row of the table that its own `psql` would refuse to show.

use std::borrow::Cow;

use bytes::BytesMut;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

/// The encoding of a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encoding(CodeTable);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CodeTable {
    /// also that of SQL_ASCII, in which nobody knows what a byte means: UTF-8 is what most programs write
    Utf8,
    /// each byte is the character of its number
    Latin1,
    /// Latin-5 is windows-1254 but for the controls
    Latin5,
    /// one of ISO 8859, KOI8 and the like: 0x80 to 0x9F may be controls
    Whole(&'static encoding_rs::Encoding),
    /// of Windows: what encoding_rs reads as a control is not assigned
    Windows(&'static encoding_rs::Encoding),
    /// of several bytes, none of them below 0xA1
    Double(&'static encoding_rs::Encoding),
    /// known to the server alone
    Server,
}

impl Default for Encoding {
    fn default() -> Self {
        Self::UTF8
    }
}

impl Encoding {
    /// Whether its bytes lie in the order of the characters that clients have: where text is ordered by bytes, they order it too.
    pub(super) fn orders_characters(self) -> bool {
        matches!(self.0, CodeTable::Utf8 | CodeTable::Latin1)
    }

    /// UTF-8.
    pub const UTF8: Self = Self(CodeTable::Utf8);

    /// By the name that the server gives it in `server_encoding`.
    pub fn of(server_encoding: &str) -> Self {
        use encoding_rs as e;
        let one_byte =
            |label: &str| e::Encoding::for_label(label.as_bytes()).map_or(CodeTable::Server, CodeTable::Whole);
        Self(match server_encoding {
            "UTF8" | "SQL_ASCII" => CodeTable::Utf8,
            "LATIN1" => CodeTable::Latin1,
            "LATIN5" => CodeTable::Latin5,
            "LATIN2" => CodeTable::Whole(e::ISO_8859_2),
            "LATIN3" => CodeTable::Whole(e::ISO_8859_3),
            "LATIN4" => CodeTable::Whole(e::ISO_8859_4),
            "LATIN6" => CodeTable::Whole(e::ISO_8859_10),
            "LATIN7" => CodeTable::Whole(e::ISO_8859_13),
            "LATIN8" => CodeTable::Whole(e::ISO_8859_14),
            "LATIN9" => CodeTable::Whole(e::ISO_8859_15),
            "LATIN10" => CodeTable::Whole(e::ISO_8859_16),
            "ISO_8859_5" | "ISO_8859_6" | "ISO_8859_7" | "ISO_8859_8" => {
                one_byte(&server_encoding.replace('_', "-").to_lowercase())
            }
            "KOI8R" => CodeTable::Whole(e::KOI8_R),
            "KOI8U" => CodeTable::Whole(e::KOI8_U),
            "WIN866" => CodeTable::Whole(e::IBM866),
            "WIN874" => CodeTable::Windows(e::WINDOWS_874),
            "WIN1250" => CodeTable::Windows(e::WINDOWS_1250),
            "WIN1251" => CodeTable::Windows(e::WINDOWS_1251),
            "WIN1252" => CodeTable::Windows(e::WINDOWS_1252),
            "WIN1253" => CodeTable::Windows(e::WINDOWS_1253),
            "WIN1254" => CodeTable::Windows(e::WINDOWS_1254),
            "WIN1255" => CodeTable::Windows(e::WINDOWS_1255),
            "WIN1256" => CodeTable::Windows(e::WINDOWS_1256),
            "WIN1257" => CodeTable::Windows(e::WINDOWS_1257),
            "WIN1258" => CodeTable::Windows(e::WINDOWS_1258),
            "EUC_JP" => CodeTable::Double(e::EUC_JP),
            "EUC_KR" => CodeTable::Double(e::EUC_KR),
            "EUC_CN" => CodeTable::Double(e::GBK),
            // EUC_JIS_2004, EUC_TW, MULE_INTERNAL
            _ => CodeTable::Server,
        })
    }

    /// What a session that reads rows sets as its `client_encoding`. A session that sets SQL_ASCII gets the bytes as
    /// they are.
    pub fn of_reading_sessions(self, server_encoding: &str) -> &'static str {
        match self.0 {
            CodeTable::Server => "UTF8",
            _ if server_encoding == "UTF8" => "UTF8",
            _ => "SQL_ASCII",
        }
    }

    /// Text of what a reading session was sent. What has no meaning becomes U+FFFD.
    pub fn decode(self, bytes: &[u8]) -> Cow<'_, str> {
        if bytes.is_ascii() {
            return String::from_utf8_lossy(bytes);
        }
        match self.0 {
            CodeTable::Utf8 | CodeTable::Server => String::from_utf8_lossy(bytes),
            CodeTable::Latin1 => bytes.iter().map(|byte| char::from(*byte)).collect(),
            CodeTable::Latin5 => split_controls(encoding_rs::WINDOWS_1254, bytes).into(),
            CodeTable::Whole(table) | CodeTable::Double(table) => table.decode_without_bom_handling(bytes).0,
            CodeTable::Windows(table) => {
                let text = table.decode_without_bom_handling(bytes).0;
                if text.contains(is_control) { text.replace(is_control, "\u{fffd}").into() } else { text }
            }
        }
    }

    /// The bytes of a text as a reading session has to send them; `None` where the database cannot have such a text.
    pub fn encode(self, text: &str) -> Option<Cow<'_, [u8]>> {
        let of = |table: &'static encoding_rs::Encoding| {
            let (bytes, _, is_replaced) = table.encode(text);
            (!is_replaced).then_some(bytes)
        };
        match self.0 {
            _ if text.is_ascii() => Some(text.as_bytes().into()),
            CodeTable::Utf8 | CodeTable::Server => Some(text.as_bytes().into()),
            CodeTable::Latin1 => text.chars().map(|c| u8::try_from(c).ok()).collect::<Option<Vec<_>>>().map(Into::into),
            CodeTable::Latin5 => {
                let byte = |c: char| match c {
                    '\u{80}'..='\u{9f}' => u8::try_from(c).ok(),
                    c => match *encoding_rs::WINDOWS_1254.encode(c.encode_utf8(&mut [0; 4])).0 {
                        [byte] if !(0x80..0xa0).contains(&byte) => Some(byte),
                        _ => None,
                    },
                };
                text.chars().map(byte).collect::<Option<Vec<_>>>().map(Into::into)
            }
            CodeTable::Whole(table) => of(table),
            CodeTable::Windows(table) => (!text.contains(is_control)).then(|| of(table))?,
            // encoding_rs knows more characters than the server, which would refuse them
            CodeTable::Double(table) => of(table).filter(|bytes| is_extended_unix_code(table, bytes)),
        }
    }
}

fn is_control(c: char) -> bool {
    ('\u{80}'..='\u{9f}').contains(&c)
}

/// Whether each character is ASCII, or of bytes from 0xA1 on; in Japanese also behind one of the two shifts.
fn is_extended_unix_code(table: &'static encoding_rs::Encoding, bytes: &[u8]) -> bool {
    let mut rest = bytes.iter();
    while let Some(byte) = rest.next() {
        let further = match byte {
            0..0x80 => 0,
            0x8e if table == encoding_rs::EUC_JP => 1,
            0x8f if table == encoding_rs::EUC_JP => 2,
            0xa1.. => 1,
            _ => return false,
        };
        if !(0..further).all(|_| rest.next().is_some_and(|byte| *byte >= 0xa1)) {
            return false;
        }
    }
    true
}

fn split_controls(table: &'static encoding_rs::Encoding, bytes: &[u8]) -> String {
    let character = |byte: &u8| match byte {
        0x80..=0x9f => Cow::Owned(char::from(*byte).to_string()),
        byte => table.decode_without_bom_handling(std::slice::from_ref(byte)).0.into_owned().into(),
    };
    bytes.iter().map(character).collect()
}

/// A text as it is sent: in the database's encoding, where the session has said so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bytes<'a>(pub &'a [u8]);

impl<'a> FromSql<'a> for Bytes<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(raw))
    }

    fn accepts(kind: &Type) -> bool {
        <&str as FromSql>::accepts(kind) || *kind == Type::JSON
    }
}

impl ToSql for Bytes<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        out.extend_from_slice(self.0);
        Ok(IsNull::No)
    }

    fn accepts(kind: &Type) -> bool {
        <&str as ToSql>::accepts(kind)
    }

    to_sql_checked!();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_each_encoding_is_read_and_written_back() {
        for (encoding, bytes, text) in [
            ("UTF8", "é…".as_bytes(), "é…"),
            ("SQL_ASCII", "é".as_bytes(), "é"),
            ("LATIN1", b"caf\xe9 \x81", "café \u{81}"),
            ("LATIN2", b"\xa3\xf3d\xbc \x85", "Łódź \u{85}"),
            ("LATIN5", b"\xd0\xfe\x93", "Ğş\u{93}"),
            ("LATIN9", b"5 \xa4", "5 €"),
            ("WIN1252", b"\x93caf\xe9\x94 \x80", "“café” €"),
            ("WIN1251", b"\xcc\xee\xf1\xea\xe2\xe0", "Москва"),
            ("KOI8R", b"\xed\xcf\xd3\xcb\xd7\xc1", "Москва"),
            ("EUC_JP", b"\xc6\xfc\xcb\xdc \x8e\xb6", "日本 ｶ"),
            ("EUC_KR", b"\xc7\xd1\xb1\xb9", "한국"),
            ("EUC_CN", b"\xd6\xd0\xb9\xfa", "中国"),
        ] {
            let known = Encoding::of(encoding);
            assert_eq!(known.decode(bytes), text, "{encoding}");
            assert_eq!(known.encode(text).as_deref(), Some(bytes), "{encoding}");
        }
    }

    #[test]
    fn a_byte_without_meaning_becomes_one_mark_and_spoils_nothing_else() {
        assert_eq!(Encoding::of("SQL_ASCII").decode(b"{\"name\":\"Andr\xe9\"}"), "{\"name\":\"Andr\u{fffd}\"}");
        assert_eq!(Encoding::of("WIN1252").decode(b"{\"x\":\"\x81\xe9\"}"), "{\"x\":\"\u{fffd}é\"}");
        assert_eq!(Encoding::of("WIN1253").decode(b"\xd2\"}"), "\u{fffd}\"}");
        assert_eq!(Encoding::of("EUC_JP").decode(b"{\"x\":\"\xa9\xa9\",\"y\":1}"), "{\"x\":\"\u{fffd}\",\"y\":1}");
        assert_eq!(
            Encoding::of("EUC_JP").decode(b"\xc6\"}"),
            "\u{fffd}\"}",
            "half a character ends where text goes on"
        );
    }

    #[test]
    fn a_text_that_the_database_cannot_have_is_told_so() {
        for (encoding, text) in [
            ("LATIN1", "€"),
            ("WIN1252", "\u{81}"),
            ("WIN1252", "日"),
            ("EUC_JP", "한"),
            ("LATIN5", "…"),
            ("EUC_CN", "€"),
        ] {
            assert_eq!(Encoding::of(encoding).encode(text), None, "{encoding} {text}");
        }
        assert!(Encoding::of("SQL_ASCII").encode("日").is_some());
    }

    #[test]
    fn only_where_a_server_knows_better_it_is_asked_to_convert() {
        for (name, asked) in
            [("UTF8", "UTF8"), ("SQL_ASCII", "SQL_ASCII"), ("WIN1252", "SQL_ASCII"), ("EUC_TW", "UTF8")]
        {
            assert_eq!(Encoding::of(name).of_reading_sessions(name), asked);
        }
    }
}
