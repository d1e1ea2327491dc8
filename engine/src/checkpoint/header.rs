//! The header of a safetensors file, parsed without trust.
//!
//! A file is `N` (8 bytes, little-endian), `N` bytes of JSON, then the tensors' bytes. Format:
//! <https://huggingface.co/docs/safetensors>. Everything a header can lie about is checked before a byte of it is
//! used: its length, names said twice, shapes whose product overflows, offsets that overlap, leave holes, or
//! reach beyond the file.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::{LFS_POINTER, Weights};
use crate::error::{EngineError, Result};

/// Longest header that is read. LLaMA-405B's largest shard has one of some 10 KiB.
const MAX_HEADER_BYTES: u64 = 16 << 20;
/// Most tensors in one file.
const MAX_TENSORS: usize = 100_000;
/// Most dimensions of one tensor.
const MAX_RANK: usize = 8;

/// The first bytes of a pointer of Git LFS; as a length they would be beyond any file.
const LFS_POINTER_HEAD: &[u8; 8] = b"version ";

/// Where a tensor lies in its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorEntry {
    /// Such as `F32`.
    pub dtype: String,
    /// Its dimensions.
    pub shape: Vec<usize>,
    /// Position of its first byte in the file.
    pub offset: u64,
    /// Its length in bytes.
    pub len: u64,
}

impl TensorEntry {
    /// Number of elements.
    pub fn elements(&self) -> u64 {
        self.shape.iter().map(|&d| d as u64).product()
    }

    /// Zeros that `len` of its bytes are to be read into. `name`: what it is called.
    pub(super) fn blank(&self, name: &str, len: u64) -> Result<Weights> {
        let element_bytes = self.len / self.elements().max(1);
        let elements = usize::try_from(len / element_bytes.max(1)).unwrap_or(usize::MAX);
        Weights::zeros(&self.dtype, elements).ok_or_else(|| EngineError::UnsupportedDtype {
            name: name.to_owned(),
            dtype: self.dtype.clone(),
        })
    }
}

/// A header's tensors by name.
pub(crate) type Header = BTreeMap<String, TensorEntry>;

/// What a header says of the file as a whole, such as the format.
pub(super) type Metadata = BTreeMap<String, String>;

/// Its key among the tensors.
pub(super) const METADATA: &str = "__metadata__";

/// Reads and checks the header of an open file.
pub(crate) fn read_header(file: &mut File, path: &Path) -> Result<Header> {
    read_header_and_metadata(file, path).map(|(header, _)| header)
}

/// The same, with what is said of the file.
pub(super) fn read_header_and_metadata(file: &mut File, path: &Path) -> Result<(Header, Metadata)> {
    let malformed = |reason: String| EngineError::MalformedCheckpoint {
        path: path.to_path_buf(),
        reason,
    };
    let file_len = file
        .metadata()
        .map_err(EngineError::io("read", path))?
        .len();

    let mut head = [0; 8];
    let got = read_up_to(file, &mut head).map_err(EngineError::io("read", path))?;
    if head == *LFS_POINTER_HEAD {
        return Err(malformed(LFS_POINTER.to_owned()));
    }
    // The first bytes of another format are an impossible length, or lead to something that is no JSON.
    let not_a_header = |reason: String| match foreign_format(&head[..got]) {
        Some(format) => EngineError::UnsafeFormat(format!(
            "{} is {format}, only safetensors is accepted",
            path.display()
        )),
        None => malformed(reason),
    };
    if got < 8 {
        return Err(not_a_header(format!(
            "the file has {file_len} bytes, a header needs 8"
        )));
    }
    let header_len = u64::from_le_bytes(head);
    if header_len > MAX_HEADER_BYTES {
        let reason =
            format!("the header claims {header_len} bytes, the limit is {MAX_HEADER_BYTES}");
        return Err(not_a_header(reason));
    }
    if header_len > file_len - 8 {
        return Err(not_a_header(format!(
            "the header claims {header_len} bytes, the file has {file_len}"
        )));
    }

    let mut json = Vec::new();
    file.take(header_len)
        .read_to_end(&mut json)
        .map_err(EngineError::io("read", path))?;
    let raw: RawHeader = serde_json::from_slice(&json)
        .map_err(|e| not_a_header(format!("the header is not valid: {e}")))?;
    let data_len = file_len - 8 - header_len;
    let header = check_layout(raw.tensors, 8 + header_len, data_len).map_err(malformed)?;
    Ok((header, raw.metadata))
}

/// Names the format of a file that is known not to be safetensors.
fn foreign_format(head: &[u8]) -> Option<&'static str> {
    match head {
        [b'P', b'K', 3 | 5, ..] => Some("a zip archive (PyTorch's pickle format)"),
        [0x80, 2..=5, ..] => Some("a pickle"),
        [b'G', b'G', b'U', b'F', ..] => Some("GGUF"),
        [0x93, b'N', b'U', b'M', b'P', b'Y', ..] => Some("a NumPy array"),
        [0x89, b'H', b'D', b'F', ..] => Some("HDF5"),
        [0x1f, 0x8b, ..] => Some("a gzip stream"),
        _ => None,
    }
}

fn read_up_to(file: &mut File, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..])? {
            0 => break,
            n => filled += n,
        }
    }
    Ok(filled)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTensor {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

/// As in the file, but with doubled names refused (`serde_json` would let the last one win).
struct RawHeader {
    tensors: Vec<(String, RawTensor)>,
    metadata: Metadata,
}

impl<'de> Deserialize<'de> for RawHeader {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = RawHeader;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(
                self,
                mut map: A,
            ) -> std::result::Result<RawHeader, A::Error> {
                let mut names = std::collections::HashSet::new();
                let (mut tensors, mut metadata) = (Vec::new(), Metadata::new());
                while let Some(name) = map.next_key::<String>()? {
                    if !names.insert(name.clone()) {
                        return Err(A::Error::custom(format!("{name:?} stands twice")));
                    }
                    if names.len() > MAX_TENSORS {
                        return Err(A::Error::custom(format!("more than {MAX_TENSORS} tensors")));
                    }
                    if name == METADATA {
                        metadata = map.next_value()?;
                    } else {
                        tensors.push((name, map.next_value()?));
                    }
                }
                Ok(RawHeader { tensors, metadata })
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

/// The tensors must cover the data exactly, without overlap and without holes.
fn check_layout(
    mut tensors: Vec<(String, RawTensor)>,
    data_start: u64,
    data_len: u64,
) -> std::result::Result<Header, String> {
    tensors.sort_by_key(|(_, tensor)| tensor.data_offsets);
    let mut header = Header::new();
    let mut end_of_last = 0;
    for (name, tensor) in tensors {
        let (begin, end) = tensor.data_offsets;
        if begin != end_of_last || end < begin {
            return Err(format!(
                "tensor {name:?} lies at {begin}..{end}, expected to begin at {end_of_last}"
            ));
        }
        if tensor.shape.len() > MAX_RANK {
            return Err(format!(
                "tensor {name:?} has {} dimensions, the limit is {MAX_RANK}",
                tensor.shape.len()
            ));
        }
        let bits = bits_per_element(&tensor.dtype)
            .ok_or_else(|| format!("tensor {name:?} has unknown dtype {:?}", tensor.dtype))?;
        let bytes = tensor
            .shape
            .iter()
            .try_fold(bits, |product, &dim| product.checked_mul(dim))
            .filter(|bits| bits % 8 == 0)
            .map(|bits| bits / 8);
        if bytes != Some(end - begin) {
            return Err(format!(
                "tensor {name:?} of shape {:?} and dtype {} claims {} bytes",
                tensor.shape,
                tensor.dtype,
                end - begin
            ));
        }
        end_of_last = end;
        let shape = tensor
            .shape
            .iter()
            .map(|&dim| usize::try_from(dim))
            .collect::<std::result::Result<_, _>>()
            .map_err(|_| format!("tensor {name:?} does not fit into memory"))?;
        let entry = TensorEntry {
            dtype: tensor.dtype,
            shape,
            offset: data_start + begin,
            len: end - begin,
        };
        header.insert(name, entry);
    }
    if end_of_last != data_len {
        return Err(format!(
            "the tensors take {end_of_last} bytes, the file holds {data_len}"
        ));
    }
    Ok(header)
}

fn bits_per_element(dtype: &str) -> Option<u64> {
    Some(match dtype {
        "F4" => 4,
        "F6_E2M3" | "F6_E3M2" => 6,
        "BOOL" | "U8" | "I8" | "F8_E4M3" | "F8_E5M2" | "F8_E8M0" | "F8_E4M3FNUZ"
        | "F8_E5M2FNUZ" => 8,
        "U16" | "I16" | "F16" | "BF16" => 16,
        "U32" | "I32" | "F32" => 32,
        "U64" | "I64" | "F64" | "C64" => 64,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, Write};

    use proptest::prelude::*;

    use super::*;

    fn parse(bytes: &[u8]) -> Result<Header> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file.rewind().unwrap();
        read_header(&mut file, Path::new("model.safetensors"))
    }

    fn with_header(json: &str, data: usize) -> Vec<u8> {
        let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
        bytes.extend(json.bytes());
        bytes.resize(bytes.len() + data, 0);
        bytes
    }

    #[test]
    fn a_valid_header_gives_absolute_offsets() {
        let json = r#"{"__metadata__":{"format":"pt"},"b":{"dtype":"BF16","shape":[2,3],"data_offsets":[4,16]},"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}"#;
        let header = parse(&with_header(json, 16)).unwrap();
        let base = 8 + json.len() as u64;
        assert_eq!(header["a"].offset, base);
        assert_eq!(
            (header["b"].offset, header["b"].len, header["b"].elements()),
            (base + 4, 12, 6)
        );
    }

    #[test]
    fn every_lie_is_refused_with_its_reason() {
        let one = |tensor: &str, data| with_header(&format!(r#"{{"a":{tensor}}}"#), data);
        let cases = [
            (b"abc".to_vec(), "needs 8"),
            (u64::MAX.to_le_bytes().to_vec(), "the limit is"),
            (1000u64.to_le_bytes().to_vec(), "the file has 8"),
            (with_header("{", 0), "not valid"),
            (with_header("[]", 0), "not valid"),
            (
                one(
                    r#"{"dtype":"F32","shape":[1],"data_offsets":[0,4],"x":1}"#,
                    4,
                ),
                "not valid",
            ),
            (
                one(r#"{"dtype":"F32","shape":[2],"data_offsets":[0,4]}"#, 4),
                "claims 4 bytes",
            ),
            (
                one(r#"{"dtype":"Q4","shape":[1],"data_offsets":[0,4]}"#, 4),
                "unknown dtype",
            ),
            (
                one(r#"{"dtype":"F32","shape":[1],"data_offsets":[4,8]}"#, 8),
                "expected to begin at 0",
            ),
            (
                one(r#"{"dtype":"F32","shape":[1],"data_offsets":[0,4]}"#, 8),
                "the file holds 8",
            ),
            (
                one(r#"{"dtype":"F32","shape":[1],"data_offsets":[0,4]}"#, 3),
                "the file holds 3",
            ),
            (
                one(
                    r#"{"dtype":"F32","shape":[9223372036854775807,4],"data_offsets":[0,4]}"#,
                    4,
                ),
                "claims 4 bytes",
            ),
            (
                one(
                    r#"{"dtype":"F32","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,4]}"#,
                    4,
                ),
                "9 dimensions",
            ),
            (
                one(r#"{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}"#, 4),
                "not valid",
            ),
            (
                with_header(
                    r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}"#,
                    2,
                ),
                "stands twice",
            ),
            (
                with_header(
                    r#"{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}"#,
                    3,
                ),
                "expected to begin at 2",
            ),
        ];
        for (bytes, reason) in cases {
            let error = parse(&bytes).unwrap_err();
            assert!(
                matches!(error, EngineError::MalformedCheckpoint { .. }),
                "{error}"
            );
            assert!(
                error.to_string().contains(reason),
                "{error} does not say {reason:?}"
            );
        }
    }

    #[test]
    fn a_header_whose_length_looks_like_another_format_is_read() {
        // 640 = 0x0280 and 215,888 = 0x034b50: the first bytes of a pickle and of a zip archive.
        let json = r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#;
        for len in [640, 215_888] {
            let padded = format!("{json}{}", " ".repeat(len - json.len()));
            assert_eq!(parse(&with_header(&padded, 1)).unwrap().len(), 1);
        }
    }

    #[test]
    fn other_formats_are_refused_by_content() {
        for head in [
            &b"PK\x03\x04\0\0\0\0\0"[..],
            b"\x80\x02}q\0\0\0\0",
            b"GGUF\x03\0\0\0\0",
            b"\x93NUMPY\x01\0",
        ] {
            assert!(matches!(parse(head), Err(EngineError::UnsafeFormat(_))));
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), len in 0u64..150) {
            let mut framed = len.to_le_bytes().to_vec();
            framed.extend(&bytes);
            drop(parse(&framed));
            drop(parse(&bytes));
        }
    }
}
