//! Text for people, the same from the command line and from the control files. Must never let text from the network reach a
//! terminal unescaped.

pub(crate) mod explain;
pub(crate) mod rows;
pub(crate) mod status;
pub(crate) mod table;
