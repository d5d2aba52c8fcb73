//! What the threads of a disk do, and when.

use super::*;
use crate::store::memory::MemoryDirectory;
use crate::store::replica::testing::*;

mod handle;
mod order;
