//! The language of a socket. Pure: `command` is what a client may say, `protocol` what the server says, `frame` how both
//! stand on the wire, a `resume_token` what a client comes back with.

pub mod command;
pub mod frame;
pub mod protocol;
pub mod resume_token;
