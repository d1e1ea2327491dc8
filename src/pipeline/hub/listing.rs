//! What a repository holds at one commit, and which of it a pruning job needs.

use std::collections::{BTreeMap, BTreeSet};

use hf_hub::repository::RepoTreeEntry;

use super::error::HubError;
use super::verify::Digest;

/// The model's description.
pub(super) const CONFIG: &str = "config.json";
/// Which tensor lies in which shard.
pub(super) const INDEX: &str = "model.safetensors.index.json";

const SINGLE_WEIGHTS: &str = "model.safetensors";
const ADAPTER: &str = "adapter_config.json";
const SAFETENSORS: &str = ".safetensors";

/// Endings of weight files that are not read, as they can run code or are not safetensors.
const REFUSED_ENDINGS: [&str; 12] = [
    ".bin", ".pt", ".pth", ".ckpt", ".pkl", ".zip", ".gguf", ".ggml", ".npz", ".h5", ".msgpack",
    ".onnx",
];

/// Makes tokens of text.
const TOKENIZER: &str = "tokenizer.json";

/// Copied beside the weights if they are there.
const COMPANIONS: [&str; 8] = [
    TOKENIZER,
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "generation_config.json",
];
const CHAT_TEMPLATE: &str = "chat_template";
const CODE: &str = ".py";

/// One file as the hub lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ListedFile {
    /// Its name: of a model no path, see [`is_plain_name`]; of a data set the path within the repository.
    pub(super) name: String,
    /// Its length.
    pub(super) size_bytes: u64,
    /// Its digest. `None` where the listing has none: the client library drops the SHA-256 of large files from it,
    /// but names their blobs in the cache after the one that the hub sends with the file.
    pub(super) digest: Option<Digest>,
}

impl ListedFile {
    /// `None` for a folder.
    pub(super) fn from_entry(entry: RepoTreeEntry) -> Option<Self> {
        match entry {
            RepoTreeEntry::File {
                oid,
                size,
                path,
                lfs,
                ..
            } => Some(Self {
                name: path,
                size_bytes: size,
                digest: match lfs {
                    Some(lfs) => lfs.sha256.as_deref().and_then(Digest::parse),
                    None => Digest::parse(&oid),
                },
            }),
            RepoTreeEntry::Directory { .. } => None,
        }
    }
}

/// The files at the top of a repository, by name.
#[derive(Debug, Clone, Default)]
pub(super) struct Listing(BTreeMap<String, ListedFile>);

impl Listing {
    /// Takes the entries whose names are safe; folders and odd names are nothing that a job needs.
    pub(super) fn from_tree(entries: impl IntoIterator<Item = RepoTreeEntry>) -> Self {
        Self::from_files(entries.into_iter().filter_map(ListedFile::from_entry))
    }

    pub(super) fn from_files(files: impl IntoIterator<Item = ListedFile>) -> Self {
        let safe = files.into_iter().filter(|file| is_plain_name(&file.name));
        Self(safe.map(|file| (file.name.clone(), file)).collect())
    }

    pub(super) fn get(&self, name: &str) -> Option<&ListedFile> {
        self.0.get(name)
    }

    /// Fails when there is no description, when there are no weights in safetensors, or when an adapter lies beside them.
    pub(super) fn require_model(&self, what: &str) -> Result<(), HubError> {
        let what = || what.to_owned();
        if self.0.contains_key(ADAPTER) {
            return Err(HubError::Adapter { what: what() });
        }
        if !self.0.contains_key(SINGLE_WEIGHTS) && !self.0.contains_key(INDEX) {
            let found = self.names(|name| name.ends_with(SAFETENSORS));
            let files = self.names(has_refused_ending);
            return Err(if found.is_empty() && !files.is_empty() {
                HubError::UnsafeFormat {
                    what: what(),
                    files,
                }
            } else {
                HubError::NoWeights {
                    what: what(),
                    found,
                }
            });
        }
        if !self.0.contains_key(CONFIG) {
            return Err(HubError::MissingConfig { what: what() });
        }
        Ok(())
    }

    /// Fails when there is nothing that makes tokens of text.
    pub(super) fn require_tokenizer(&self, what: &str) -> Result<(), HubError> {
        if self.0.contains_key(TOKENIZER) {
            return Ok(());
        }
        let what = what.to_owned();
        Err(HubError::NoTokenizer { what })
    }

    fn names(&self, is_meant: impl Fn(&str) -> bool) -> String {
        let names = self.0.keys().map(String::as_str);
        let names: Vec<&str> = names.filter(|name| is_meant(name)).collect();
        names.join(", ")
    }

    /// Whether the index is needed to know the shards. Some repositories hold the weights twice, as one file and as
    /// shards, or under two names; the single file wins, as in transformers.
    pub(super) fn is_sharded(&self) -> bool {
        !self.0.contains_key(SINGLE_WEIGHTS) && self.0.contains_key(INDEX)
    }

    /// Everything a job needs; `shards` are those that the index names. Code goes along, and is never run.
    pub(super) fn needed(
        &self,
        what: &str,
        shards: Option<&BTreeSet<String>>,
        with_code: bool,
    ) -> Result<Vec<&ListedFile>, HubError> {
        let absent = shards
            .into_iter()
            .flatten()
            .find(|shard| !self.0.contains_key(*shard));
        if let Some(shard) = absent {
            return Err(HubError::MissingShard {
                what: what.to_owned(),
                shard: shard.clone(),
            });
        }
        let is_needed = |name: &str| {
            let weights = match shards {
                Some(shards) => name == INDEX || shards.contains(name),
                None => name == SINGLE_WEIGHTS,
            };
            weights
                || name == CONFIG
                || COMPANIONS.contains(&name)
                || name.starts_with(CHAT_TEMPLATE)
                || with_code && name.ends_with(CODE)
        };
        Ok(self
            .0
            .values()
            .filter(|file| is_needed(&file.name))
            .collect())
    }
}

/// Whether a name stays within its directory on any system: one component, no control characters.
fn is_plain_name(name: &str) -> bool {
    let odd = |c: char| c == '/' || c == '\\' || c == ':' || c.is_control();
    !name.is_empty() && name.len() <= 255 && !name.starts_with('.') && !name.contains(odd)
}

fn has_refused_ending(name: &str) -> bool {
    REFUSED_ENDINGS.iter().any(|ending| name.ends_with(ending))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::weight_map;

    fn listing(names: &[&str]) -> Listing {
        Listing::from_files(names.iter().map(|name| ListedFile {
            name: (*name).to_owned(),
            size_bytes: 1,
            digest: None,
        }))
    }

    fn needed(listing: &Listing, shards: Option<&BTreeSet<String>>) -> Vec<String> {
        let files = listing.needed("m", shards, false).unwrap();
        files.into_iter().map(|file| file.name.clone()).collect()
    }

    #[test]
    fn weights_that_are_there_twice_are_fetched_once() {
        let twice = listing(&[
            "config.json",
            "consolidated.safetensors",
            "model.safetensors",
            INDEX,
        ]);
        assert!(!twice.is_sharded());
        assert_eq!(needed(&twice, None), ["config.json", "model.safetensors"]);
    }

    #[test]
    fn of_a_sharded_model_the_shards_of_its_index_are_needed() {
        let sharded = listing(&[
            "a.safetensors",
            "b.safetensors",
            "config.json",
            INDEX,
            "other.safetensors",
        ]);
        assert!(sharded.is_sharded());
        let index =
            br#"{"metadata": {}, "weight_map": {"x": "a.safetensors", "y": "b.safetensors"}}"#;
        let shards = weight_map(index).unwrap().into_values().collect();
        assert_eq!(
            needed(&sharded, Some(&shards)),
            ["a.safetensors", "b.safetensors", "config.json", INDEX]
        );
    }

    #[test]
    fn the_tokenizer_and_the_chat_template_come_along_and_nothing_else_does() {
        let full = listing(&[
            "README.md",
            "chat_template.jinja",
            "config.json",
            "handler.py",
            "merges.txt",
            "model.safetensors",
            "pytorch_model.bin",
            "tokenizer.json",
        ]);
        assert_eq!(
            needed(&full, None),
            [
                "chat_template.jinja",
                "config.json",
                "merges.txt",
                "model.safetensors",
                "tokenizer.json"
            ]
        );
    }

    #[test]
    fn code_comes_along_where_the_configuration_names_some() {
        let listing = listing(&["config.json", "model.safetensors", "modeling_x.py", "x.sh"]);
        let files = listing.needed("m", None, true).unwrap();
        assert_eq!(files.len(), 3);
        assert_eq!(files[2].name, "modeling_x.py");
    }

    #[test]
    fn what_is_no_whole_model_is_refused_by_what_is_there() {
        for (other, says) in [
            ("consolidated.safetensors", "only consolidated.safetensors"),
            ("gptq_model-4bit-128g.safetensors", "only gptq_model-4bit"),
            ("adapter_config.json", "an adapter"),
        ] {
            let error = listing(&["config.json", other])
                .require_model("m")
                .unwrap_err();
            assert!(error.to_string().contains(says), "{error}");
        }
        let merged = listing(&["config.json", "model.safetensors", "adapter_config.json"]);
        assert!(matches!(
            merged.require_model("m"),
            Err(HubError::Adapter { .. })
        ));
    }

    #[test]
    fn names_that_could_leave_the_directory_are_not_listed() {
        let odd = [
            "",
            ".",
            "..",
            "../x.safetensors",
            "/etc/x.safetensors",
            "a/x.safetensors",
            "..\\x.safetensors",
            "C:x.safetensors",
            "x\0.safetensors",
            "x\n.safetensors",
            ".x.safetensors",
        ];
        assert!(listing(&odd).0.is_empty());
        assert!(listing(&[&"x".repeat(256)]).0.is_empty());
    }

    #[test]
    fn a_shard_outside_the_repository_is_a_missing_one() {
        let shards = BTreeSet::from(["../../etc/passwd".to_owned()]);
        let error = listing(&["config.json", INDEX])
            .needed("m", Some(&shards), false)
            .unwrap_err();
        assert!(matches!(error, HubError::MissingShard { .. }), "{error:?}");
    }
}
