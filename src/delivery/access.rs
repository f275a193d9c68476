//! Who may see what, and how much each may have. `auth` says whose a token is, `policy` what its holder may see,
//! `claims` what tables say of the holder, `floors` from when on, `shares` how many sockets and views each has.

pub mod auth;
pub mod claims;
pub mod floors;
pub mod policy;
pub mod shares;
