//! Who may see what, and how much each may have. `auth` says who somebody is, `policy` what that one may see, `claims` what
//! tables say of whom, `floors` from when on, `shares` how many sockets and views each has.

pub mod auth;
pub mod claims;
pub mod floors;
pub mod policy;
pub mod shares;
