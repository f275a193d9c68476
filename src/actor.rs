//! What a writer says of itself in `rowcast.actor`: a name, and behind it, where it is part of a trace, the trace's
//! `traceparent` (W3C Trace Context). Pure.

/// Before the `traceparent`, at the start of the text or behind a space.
const WORD: &str = "traceparent=";
/// `00-<32 digits>-<16 digits>-<2 digits>`: version 0, the only one there is.
const LENGTH: usize = 55;

/// Which span of which trace a writer works in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceParent {
    /// the trace; never 0
    pub trace: u128,
    /// the writer's span; never 0
    pub span: u64,
    /// whether the writer records it
    pub is_sampled: bool,
}

impl TraceParent {
    /// Reads one; `None` where it is none.
    fn read(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let is_hex = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'-'));
        if !is_hex || [version, trace, span, flags].map(str::len) != [2, 32, 16, 2] || version != "00" {
            return None;
        }
        let (trace, span) = (u128::from_str_radix(trace, 16).ok()?, u64::from_str_radix(span, 16).ok()?);
        let is_sampled = u8::from_str_radix(flags, 16).ok()? & 1 == 1;
        (trace != 0 && span != 0).then_some(Self { trace, span, is_sampled })
    }
}

/// The name, where there is one, and the trace.
pub fn read(actor: &str) -> (Option<&str>, Option<TraceParent>) {
    let whole = (Some(actor), None);
    let Some((before, text)) = actor.len().checked_sub(LENGTH).and_then(|at| actor.split_at_checked(at)) else {
        return whole;
    };
    let Some(name) = before.strip_suffix(WORD).filter(|name| name.is_empty() || name.ends_with(' ')) else {
        return whole;
    };
    match TraceParent::read(text) {
        Some(parent) => (Some(name.trim_end()).filter(|name| !name.is_empty()), Some(parent)),
        None => whole,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_trace_stands_behind_a_name_or_alone() {
        let parent = TraceParent {
            trace: 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c,
            span: 0xb7ad_6b71_6920_3331,
            is_sampled: true,
        };
        assert_eq!(read(&format!("dr-lee traceparent={PARENT}")), (Some("dr-lee"), Some(parent)));
        assert_eq!(read(&format!("traceparent={PARENT}")), (None, Some(parent)));
        let unsampled = PARENT.replace("-01", "-00");
        let (_, read_back) = read(&format!("Jörg Ä traceparent={unsampled}"));
        assert_eq!(read_back, Some(TraceParent { is_sampled: false, ..parent }));
    }

    #[test]
    fn whatever_is_none_is_part_of_the_name() {
        let zeros = "00-00000000000000000000000000000000-b7ad6b7169203331-01";
        for actor in [
            String::new(),
            "dr-lee".into(),
            PARENT.into(),
            format!("nottraceparent={PARENT}"),
            format!("dr-lee traceparent={}", &PARENT[..50]),
            format!("dr-lee traceparent={}", PARENT.to_uppercase()),
            format!("dr-lee traceparent=01{}", &PARENT[2..]),
            format!("dr-lee traceparent={zeros}"),
            "ä".repeat(60),
        ] {
            assert_eq!(read(&actor), (Some(&*actor), None), "{actor}");
        }
    }
}
