//! What a run starts from: the first leaf of its trace. Owns its fields and their byte form.

use std::collections::BTreeMap;

use serde::Serialize;

use super::codec::{Decoder, Encoder, TraceDecodeError};
use crate::{ClassId, ClassKind, ContentDigest};

/// Version of the byte form of a run without a tracer and without an image of its own.
pub const TRACE_VERSION: u16 = 1;
/// Version of the byte form of every other run: a header with image and virtual time, and the events of tasks.
pub const TRACE_VERSION_TRACED: u16 = 2;

/// What a run starts from. Everything in it is the same on every machine that runs the same order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TraceHeader {
    /// Exact class.
    pub class: ClassId,
    /// Content id of the environment's image; `None` where the job runs on the class's own.
    pub image: Option<ContentDigest>,
    /// Seed of virtual entropy; zeros where the class has none (`native`).
    #[serde(serialize_with = "super::leaf::as_hex")]
    pub seed: [u8; 32],
    /// The limits that bound a run in the same way everywhere.
    pub limits: TraceLimits,
    /// Program and arguments as the program sees them.
    pub argv: Vec<String>,
    /// The whole environment as the program sees it.
    pub env: BTreeMap<String, String>,
    /// Root over the input files, see [`crate::tree_root`].
    #[serde(serialize_with = "super::leaf::as_hex")]
    pub input_tree: [u8; 32],
}

/// Limits whose effect does not depend on the machine. (Real time does, and is no part of a trace.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct TraceLimits {
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Processes and threads.
    pub processes: u32,
    /// Open files in one process.
    pub open_files: u32,
    /// Bytes on the job's file systems.
    pub tmpfs_bytes: u64,
    /// Files and directories that may be created.
    pub inodes: u64,
    /// Bytes on stdout and stderr together.
    pub output_bytes: u64,
    /// Budget of virtual time in nanoseconds; 0 where the class has no virtual time.
    pub virtual_nanos: u64,
}

impl TraceHeader {
    /// The version of its byte form: [`TRACE_VERSION`] where that can say it, else [`TRACE_VERSION_TRACED`].
    #[must_use]
    pub fn version(&self) -> u16 {
        let is_untraced = self.class.kind() == Some(ClassKind::Native);
        if is_untraced && self.image.is_none() && self.limits.virtual_nanos == 0 {
            TRACE_VERSION
        } else {
            TRACE_VERSION_TRACED
        }
    }

    /// The byte form.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new(0x00);
        out.u16(self.version());
        out.raw(self.class.as_bytes());
        if self.version() == TRACE_VERSION_TRACED {
            out.raw(&self.image.map_or([0; 32], |image| image.0));
        }
        out.raw(&self.seed);
        out.u64(self.limits.memory_bytes);
        out.u32(self.limits.processes);
        out.u32(self.limits.open_files);
        out.u64(self.limits.tmpfs_bytes);
        out.u64(self.limits.inodes);
        out.u64(self.limits.output_bytes);
        if self.version() == TRACE_VERSION_TRACED {
            out.u64(self.limits.virtual_nanos);
        }
        out.u64(self.argv.len() as u64);
        self.argv.iter().for_each(|argument| out.text(argument));
        out.u64(self.env.len() as u64);
        for (name, value) in &self.env {
            out.text(name);
            out.text(value);
        }
        out.raw(&self.input_tree);
        out.done()
    }

    /// Reads the byte form; whatever [`Self::encode`] would not write is refused.
    ///
    /// # Errors
    /// [`TraceDecodeError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, TraceDecodeError> {
        let mut bytes = Decoder::new(bytes);
        match bytes.u8("tag")? {
            0x00 => {}
            other => return Err(TraceDecodeError::Tag(other)),
        }
        let version = bytes.u16("version")?;
        if ![TRACE_VERSION, TRACE_VERSION_TRACED].contains(&version) {
            return Err(TraceDecodeError::Version(version));
        }
        let is_traced = version == TRACE_VERSION_TRACED;
        let header = Self {
            class: ClassId(bytes.array("class")?),
            image: if is_traced {
                Some(bytes.array("image")?)
                    .filter(|image| *image != [0; 32])
                    .map(ContentDigest)
            } else {
                None
            },
            seed: bytes.array("seed")?,
            limits: TraceLimits {
                memory_bytes: bytes.u64("memory")?,
                processes: bytes.u32("processes")?,
                open_files: bytes.u32("open files")?,
                tmpfs_bytes: bytes.u64("file system bytes")?,
                inodes: bytes.u64("inodes")?,
                output_bytes: bytes.u64("printed bytes")?,
                virtual_nanos: if is_traced { bytes.u64("virtual time")? } else { 0 },
            },
            argv: decode_argv(&mut bytes)?,
            env: decode_env(&mut bytes)?,
            input_tree: bytes.array("input tree")?,
        };
        bytes.done()?;
        if header.version() != version {
            return Err(TraceDecodeError::Version(version));
        }
        Ok(header)
    }
}

fn decode_argv(bytes: &mut Decoder<'_>) -> Result<Vec<String>, TraceDecodeError> {
    // No room is taken ahead: the number may be anything, the bytes are what there is.
    let count = bytes.u64("number of arguments")?;
    (0..count).map(|_| bytes.text("argument")).collect()
}

fn decode_env(bytes: &mut Decoder<'_>) -> Result<BTreeMap<String, String>, TraceDecodeError> {
    let count = bytes.u64("number of variables")?;
    let mut env = BTreeMap::new();
    for _ in 0..count {
        let (name, value) = (bytes.text("variable's name")?, bytes.text("variable")?);
        if env.last_key_value().is_some_and(|(last, _)| *last >= name) {
            return Err(TraceDecodeError::Field("order of variables"));
        }
        env.insert(name, value);
    }
    Ok(env)
}
