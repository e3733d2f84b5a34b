//! A model's card: the small files that gateways and routers need of it, and the hash by which beats name it.
//!
//! A card holds no weights and understands none of its files; [`crate::text::TextModel`] does. As one image
//! of bytes it crosses the bus in parts ([`part`], [`CardFetch`]); an image that does not hash to the wanted name is refused.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use bus_schemas::limits::{CARD_FILE_BYTES_MAX, CARD_PART_BYTES};
use serde_json::json;

/// Begins every image; the digit grows when the layout changes.
const MAGIC: &[u8; 8] = b"thcard1\n";
/// Bytes before each file: its number and its length.
const FILE_HEADER_BYTES: usize = 9;
/// Largest image: every file at its bound, with all headers.
const IMAGE_BYTES_MAX: u64 =
    File::ALL.len() as u64 * (CARD_FILE_BYTES_MAX + FILE_HEADER_BYTES as u64) + 12;
/// `model_type` of a scripted model's configuration.
pub(crate) const SCRIPT_TYPE: &str = "script";
/// What the configuration of a simulated model says on top: bytes of its blocks.
const SIMULATED_KEY: &str = "thalamus_simulated_block_bytes";
/// What the configuration of a quantised model says on top: the format of its weights.
const QUANTISED_KEY: &str = "thalamus_weights";

/// The files that a card may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum File {
    /// Always there.
    Config,
    /// There for all but scripted models.
    Tokenizer,
    /// Special tokens, and often the chat template.
    TokenizerConfig,
    /// End ids.
    GenerationConfig,
    /// The chat template, in newer models.
    ChatTemplate,
}

impl File {
    /// All of them, in the order of an image.
    pub const ALL: [Self; 5] = [
        Self::Config,
        Self::Tokenizer,
        Self::TokenizerConfig,
        Self::GenerationConfig,
        Self::ChatTemplate,
    ];

    /// Its name in a model's directory.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Config => "config.json",
            Self::Tokenizer => "tokenizer.json",
            Self::TokenizerConfig => "tokenizer_config.json",
            Self::GenerationConfig => "generation_config.json",
            Self::ChatTemplate => "chat_template.jinja",
        }
    }
}

/// Why there is no card.
#[derive(Debug, thiserror::Error)]
pub enum CardError {
    /// Not a model's directory.
    #[error("{0} has no config.json; name the directory of a Hugging Face model")]
    NoConfig(PathBuf),
    /// The system refused.
    #[error("cannot read {path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Its answer.
        source: io::Error,
    },
    /// A file beyond all reason.
    #[error("{name} has {bytes} bytes, at most {most} are possible")]
    TooLarge {
        /// Which.
        name: String,
        /// How many.
        bytes: u64,
        /// The bound.
        most: u64,
    },
    /// A configuration that is none.
    #[error("config.json is no JSON object: {0}")]
    Config(serde_json::Error),
    /// An image that is none.
    #[error("these bytes are no model card: {0}")]
    Image(&'static str),
    /// Whole, but another card than the wanted one.
    #[error("this model card has the hash {found:016x}, not {wanted:016x}")]
    Hash {
        /// Hash that was asked for.
        wanted: u64,
        /// Hash of what came.
        found: u64,
    },
}

/// A model's small files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CardFiles {
    name: String,
    block_tokens: u32,
    files: BTreeMap<File, Vec<u8>>,
}

impl CardFiles {
    /// Reads the files in `dir`, for blocks of `block_tokens` tokens.
    ///
    /// # Errors
    /// [`CardError`] if there is no configuration, or a file cannot be read or is too large.
    pub fn read(dir: &Path, block_tokens: u32) -> Result<Self, CardError> {
        let name = dir
            .file_name()
            .unwrap_or(dir.as_os_str())
            .to_string_lossy()
            .into_owned();
        let mut files = BTreeMap::new();
        for file in File::ALL {
            if let Some(bytes) = read_file(&dir.join(file.name()))? {
                files.insert(file, bytes);
            }
        }
        if !files.contains_key(&File::Config) {
            return Err(CardError::NoConfig(dir.into()));
        }
        Ok(Self {
            name,
            block_tokens,
            files,
        })
    }

    /// The card of a scripted model, which has no files; `block_bytes` only tells unlike workers apart.
    #[must_use]
    pub fn scripted(
        name: &str,
        context_tokens: u32,
        block_bytes: usize,
        block_tokens: u32,
    ) -> Self {
        let config = json!({
            "model_type": SCRIPT_TYPE,
            "script": name,
            "max_position_embeddings": context_tokens,
            "block_bytes": block_bytes,
        });
        let files = BTreeMap::from([(File::Config, config.to_string().into_bytes())]);
        Self {
            name: name.to_owned(),
            block_tokens,
            files,
        }
    }

    /// The card of workers that only take this model's time; `block_bytes` tells unlike ones apart.
    ///
    /// # Errors
    /// [`CardError::Config`] if the configuration is no JSON object.
    pub fn simulated(self, block_bytes: usize) -> Result<Self, CardError> {
        self.marked(SIMULATED_KEY, block_bytes.into())
    }

    /// The card of workers that bring this model's weights into another format as they load them.
    ///
    /// # Errors
    /// [`CardError::Config`] if the configuration is no JSON object.
    pub fn quantised(self, format: &str) -> Result<Self, CardError> {
        self.marked(QUANTISED_KEY, format.into())
    }

    /// A card with a word more in its configuration, so that its workers never share a pool with those of the plain one.
    fn marked(mut self, key: &str, value: serde_json::Value) -> Result<Self, CardError> {
        let config = self.files.entry(File::Config).or_default();
        let mut object: serde_json::Map<String, serde_json::Value> =
            serde_json::from_slice(config).map_err(CardError::Config)?;
        object.insert(key.into(), value);
        *config = serde_json::Value::from(object).to_string().into_bytes();
        Ok(self)
    }

    /// Reads an image that came over the bus, of the model called `name`.
    ///
    /// # Errors
    /// [`CardError::Image`] if it is none.
    pub fn from_image(name: &str, image: &[u8]) -> Result<Self, CardError> {
        let rest = image
            .strip_prefix(MAGIC)
            .ok_or(CardError::Image("they begin otherwise"))?;
        let (block_tokens, mut rest) = rest
            .split_first_chunk()
            .ok_or(CardError::Image("they end in the header"))?;
        let mut files = BTreeMap::new();
        while !rest.is_empty() {
            let (file, bytes, next) = split_file(rest)?;
            if files
                .last_key_value()
                .is_some_and(|(last, _)| *last >= file)
            {
                return Err(CardError::Image("its files are not in order"));
            }
            files.insert(file, bytes.to_vec());
            rest = next;
        }
        if !files.contains_key(&File::Config) {
            return Err(CardError::Image("it has no config.json"));
        }
        let block_tokens = u32::from_le_bytes(*block_tokens);
        Ok(Self {
            name: name.to_owned(),
            block_tokens,
            files,
        })
    }

    /// The whole card as bytes.
    #[must_use]
    pub fn image(&self) -> Vec<u8> {
        let mut image = Vec::new();
        self.write(|bytes| image.extend_from_slice(bytes));
        image
    }

    /// The name of this card in beats: the same for the same files and block size, whatever the model is called.
    #[must_use]
    pub fn hash(&self) -> u64 {
        let mut hasher = blake3::Hasher::new();
        self.write(|bytes| {
            hasher.update(bytes);
        });
        truncate(hasher.finalize())
    }

    /// What people call the model.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Tokens in a block.
    #[must_use]
    pub const fn block_tokens(&self) -> u32 {
        self.block_tokens
    }

    /// Content of a file, if the model has it.
    #[must_use]
    pub fn get(&self, file: File) -> Option<&[u8]> {
        self.files.get(&file).map(Vec::as_slice)
    }

    /// The files that are there, with their content.
    pub fn files(&self) -> impl Iterator<Item = (File, &[u8])> {
        self.files
            .iter()
            .map(|(file, bytes)| (*file, bytes.as_slice()))
    }

    /// Hands out the image piece by piece.
    fn write(&self, mut sink: impl FnMut(&[u8])) {
        sink(MAGIC);
        sink(&self.block_tokens.to_le_bytes());
        for (file, bytes) in &self.files {
            sink(&[*file as u8]);
            sink(&(bytes.len() as u64).to_le_bytes());
            sink(bytes);
        }
    }
}

/// The part of an image that begins at `offset`; nothing past its end.
#[must_use]
pub fn part(image: &[u8], offset: u64) -> &[u8] {
    let begin = usize::try_from(offset)
        .unwrap_or(usize::MAX)
        .min(image.len());
    &image[begin..image.len().min(begin.saturating_add(CARD_PART_BYTES))]
}

/// An image on its way, part by part and in order.
#[derive(Debug)]
pub struct CardFetch {
    hash: u64,
    total: u64,
    image: Vec<u8>,
}

impl CardFetch {
    /// Begins to fetch the card called `hash`, of `total` bytes.
    ///
    /// # Errors
    /// [`CardError::TooLarge`] if no card can have so many.
    pub fn new(hash: u64, total: u64) -> Result<Self, CardError> {
        if total > IMAGE_BYTES_MAX {
            let name = format!("model card {hash:016x}");
            return Err(CardError::TooLarge {
                name,
                bytes: total,
                most: IMAGE_BYTES_MAX,
            });
        }
        Ok(Self {
            hash,
            total,
            image: Vec::new(),
        })
    }

    /// Offset of the part that is wanted next; none when all are here.
    #[must_use]
    pub const fn wanted(&self) -> Option<u64> {
        let have = self.image.len() as u64;
        if have < self.total { Some(have) } else { None }
    }

    /// Takes a part. One that is not wanted now, or goes past the end, changes nothing.
    pub fn add(&mut self, offset: u64, bytes: &[u8]) {
        let fits = bytes.len() as u64 <= self.total.saturating_sub(offset);
        if self.wanted() == Some(offset) && fits {
            self.image.extend_from_slice(bytes);
        }
    }

    /// The card, of the model called `name`.
    ///
    /// # Errors
    /// [`CardError`] if parts are missing or it is another card.
    pub fn finish(self, name: &str) -> Result<CardFiles, CardError> {
        if self.wanted().is_some() {
            return Err(CardError::Image("parts are missing"));
        }
        let found = truncate(blake3::hash(&self.image));
        if found != self.hash {
            return Err(CardError::Hash {
                wanted: self.hash,
                found,
            });
        }
        CardFiles::from_image(name, &self.image)
    }
}

fn truncate(hash: blake3::Hash) -> u64 {
    let first = hash.as_bytes().first_chunk().expect("a hash has 32 bytes");
    u64::from_le_bytes(*first)
}

/// The first file of `rest`, and what follows it.
fn split_file(rest: &[u8]) -> Result<(File, &[u8], &[u8]), CardError> {
    let short = || CardError::Image("they end in a file");
    let (header, rest) = rest
        .split_first_chunk::<FILE_HEADER_BYTES>()
        .ok_or_else(short)?;
    let [number, length @ ..] = *header;
    let file = File::ALL.into_iter().find(|file| *file as u8 == number);
    let file = file.ok_or(CardError::Image("they have an unknown file"))?;
    let length = usize::try_from(u64::from_le_bytes(length)).map_err(|_| short())?;
    let (bytes, rest) = rest.split_at_checked(length).ok_or_else(short)?;
    Ok((file, bytes, rest))
}

/// Content of a file of sane size; none if it is not there.
fn read_file(path: &Path) -> Result<Option<Vec<u8>>, CardError> {
    let fail = |source| CardError::Io {
        path: path.into(),
        source,
    };
    let found = match fs::metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(fail(error)),
    };
    if found.len() > CARD_FILE_BYTES_MAX {
        let name = path.display().to_string();
        return Err(CardError::TooLarge {
            name,
            bytes: found.len(),
            most: CARD_FILE_BYTES_MAX,
        });
    }
    fs::read(path).map(Some).map_err(fail)
}
