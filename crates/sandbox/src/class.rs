//! The id of class `native` on this machine. Owns what enters it; never runs a program.
