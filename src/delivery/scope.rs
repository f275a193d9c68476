//! What a subscriber asks for and what it is shown of a change: rows by conditions, columns by name. Pure; knows neither who asks
//! nor how it is sent.

pub mod filter;
pub mod grant;
pub mod label;
mod like;
pub(crate) mod memo;
mod moment;
pub mod page;
pub mod paging;
pub mod projection;
pub mod selection;
pub mod telling;
pub mod value;
pub mod view_key;
pub mod visible;
