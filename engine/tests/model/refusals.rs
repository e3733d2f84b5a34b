//! Checkpoints that are damaged, incomplete or of another model: one clear error each, and never a panic.

use std::{collections::BTreeMap, fs, path::Path, sync::Arc};

use engine::model::{LoadError, ModelEngine, ModelOptions, Progress};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::{Value, json};

use crate::rig::{Rig, Wordless, dir, expected};

const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// A copy of a checkpoint that a test may spoil.
struct Copy {
    dir: tempfile::TempDir,
}

/// Name to format, shape, elements.
type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

impl Copy {
    fn of(name: &str) -> Self {
        let to = tempfile::tempdir().expect("a temporary directory");
        for file in ["config.json", WEIGHTS] {
            fs::copy(dir(name).join(file), to.path().join(file)).expect("copied");
        }
        Self { dir: to }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn config(self, key: &str, value: Value) -> Self {
        let path = self.path().join("config.json");
        let mut config: Value =
            serde_json::from_slice(&fs::read(&path).expect("read")).expect("JSON");
        config[key] = value;
        fs::write(path, config.to_string()).expect("written");
        self
    }

    fn file(self, name: &str, change: impl FnOnce(&mut Vec<u8>)) -> Self {
        let path = self.path().join(name);
        let mut bytes = fs::read(&path).unwrap_or_default();
        change(&mut bytes);
        fs::write(path, bytes).expect("written");
        self
    }

    fn without(self, name: &str) -> Self {
        fs::remove_file(self.path().join(name)).expect("removed");
        self
    }

    /// Rewrites the weights with the format's own library.
    fn tensors(self, change: impl FnOnce(&mut Tensors)) -> Self {
        self.file(WEIGHTS, |bytes| {
            let mut tensors = parse(bytes);
            change(&mut tensors);
            *bytes = serialise(&tensors);
        })
    }

    fn refused(self, says: &[&str]) {
        let error = load(self.path())
            .err()
            .expect("must be refused")
            .to_string();
        for part in says {
            assert!(error.contains(part), "{error:?} does not say {part:?}");
        }
    }
}

fn parse(bytes: &[u8]) -> Tensors {
    let file = SafeTensors::deserialize(bytes).expect("a good file");
    let owned = |(name, view): (String, TensorView<'_>)| {
        (
            name,
            (view.dtype(), view.shape().to_vec(), view.data().to_vec()),
        )
    };
    file.tensors().into_iter().map(owned).collect()
}

fn serialise(tensors: &Tensors) -> Vec<u8> {
    let mut views = Vec::new();
    for (name, (dtype, shape, data)) in tensors {
        let view = TensorView::new(*dtype, shape.clone(), data).expect("a good view");
        views.push((name, view));
    }
    safetensors::serialize(views, None).expect("written")
}

fn load(dir: &Path) -> Result<ModelEngine, LoadError> {
    let options = ModelOptions {
        threads: Some(1),
        ..ModelOptions::default()
    };
    ModelEngine::load(dir, Arc::new(Wordless(384)), options, |_| {})
}

#[test]
fn files_must_be_there_and_whole() {
    Copy::of("llama3")
        .without("config.json")
        .refused(&["cannot read", "config.json"]);
    Copy::of("llama3")
        .without(WEIGHTS)
        .refused(&["neither", INDEX, "download"]);
    Copy::of("llama3")
        .file(WEIGHTS, |b| b.truncate(b.len() - 1))
        .refused(&["truncated", "286616"]);
    Copy::of("llama3")
        .file(WEIGHTS, |b| b.truncate(1000))
        .refused(&["truncated"]);
    Copy::of("llama3")
        .file(WEIGHTS, Vec::clear)
        .refused(&[WEIGHTS, "truncated"]);
    Copy::of("llama3")
        .file(WEIGHTS, |b| b[7] = 0xff)
        .refused(&["damaged header", "its length is"]);
    Copy::of("llama3")
        .file("config.json", |b| b.truncate(50))
        .refused(&["config.json is not valid", "line"]);
    Copy::of("llama3")
        .file("config.json", |b| *b = "[".repeat(100_000).into_bytes())
        .refused(&["not valid"]);
}

#[test]
fn config_must_describe_something_known() {
    let arch = json!(["BertModel"]);
    Copy::of("llama3")
        .config("architectures", arch)
        .refused(&["BertModel", "LlamaForCausalLM"]);
    Copy::of("llama3")
        .config("hidden_act", json!("relu"))
        .refused(&["hidden_act", "relu", "silu"]);
    let method = json!({"quant_method": "gptq"});
    Copy::of("llama3")
        .config("quantization_config", method)
        .refused(&["gptq", "unquantised"]);
    Copy::of("llama3")
        .config("num_hidden_layers", json!(0))
        .refused(&["num_hidden_layers is 0"]);
    let rope = json!({"rope_type": "longrope"});
    Copy::of("llama3")
        .config("rope_scaling", rope)
        .refused(&["rope_scaling.rope_type", "longrope"]);
}

#[test]
fn config_and_tensors_must_agree() {
    let shape = &[
        "model.embed_tokens.weight",
        "[384, 64]",
        "[385, 64]",
        "vocab_size",
    ];
    Copy::of("llama3")
        .config("vocab_size", json!(385))
        .refused(shape);
    let heads = &["q_proj", "num_attention_heads x head_dim"];
    Copy::of("llama3")
        .config("num_attention_heads", json!(8))
        .refused(heads);
    Copy::of("llama3")
        .config("num_hidden_layers", json!(4))
        .refused(&["model.layers.3.", "missing"]);
    Copy::of("llama3")
        .config("num_hidden_layers", json!(2))
        .refused(&["model.layers.2.", "not part"]);
    Copy::of("qwen2")
        .config("tie_word_embeddings", json!(false))
        .refused(&["lm_head.weight", "missing"]);
    let llama = json!(["LlamaForCausalLM"]);
    Copy::of("qwen2")
        .config("architectures", llama)
        .refused(&["k_proj.bias", "not part"]);
    Copy::of("llama3")
        .config("attention_bias", json!(true))
        .refused(&["q_proj.bias", "missing"]);
}

#[test]
fn tensors_must_be_numbers_that_we_compute_with() {
    let name = "model.layers.1.mlp.up_proj.weight";
    Copy::of("llama3")
        .tensors(|t| drop(t.remove(name)))
        .refused(&[name, "is missing", "incomplete"]);
    Copy::of("llama3")
        .tensors(|t| t.get_mut(name).expect("there").0 = Dtype::I16)
        .refused(&[name, "is I16, expected BF16, F16 or F32"]);
    Copy::of("llama3")
        .tensors(|t| t.get_mut(name).expect("there").1.reverse())
        .refused(&[name, "[64, 96]", "[96, 64]"]);
    let spoil = |t: &mut Tensors, name: &str| {
        let bytes = &mut t.get_mut(name).expect("there").2;
        bytes[20..22].copy_from_slice(&half::bf16::NAN.to_le_bytes());
    };
    for name in [name, "model.norm.weight"] {
        Copy::of("llama3")
            .tensors(|t| spoil(t, name))
            .refused(&[name, "not finite at index 10"]);
    }
}

/// Splits the weights in two shards, every other tensor in each.
fn sharded(change: impl FnOnce(&mut Value)) -> Copy {
    let copy = Copy::of("qwen3");
    let all = parse(&fs::read(copy.path().join(WEIGHTS)).expect("read"));
    let copy = copy.without(WEIGHTS);
    let (mut shards, mut map) = ([Tensors::new(), Tensors::new()], serde_json::Map::new());
    for (i, (name, tensor)) in all.into_iter().enumerate() {
        map.insert(name.clone(), format!("shard-{}.safetensors", i % 2).into());
        shards[i % 2].insert(name, tensor);
    }
    for (i, shard) in shards.iter().enumerate() {
        let path = copy.path().join(format!("shard-{i}.safetensors"));
        fs::write(path, serialise(shard)).expect("written");
    }
    let mut index = json!({"metadata": {}, "weight_map": map});
    change(&mut index);
    copy.file(INDEX, |b| *b = index.to_string().into_bytes())
}

#[test]
fn shards_give_what_one_file_gives() {
    let case = &expected("qwen3").cases[1];
    let copy = sharded(|_| {});
    let mut rig = Rig::with(copy.path(), ModelOptions::default());
    let found = rig.complete(&case.prompt_ids, usize::MAX, case.greedy_ids.len());
    assert_eq!(found.ids[case.prompt_ids.len()..], case.greedy_ids);
}

#[test]
fn shards_and_index_must_agree() {
    sharded(|_| {})
        .without("shard-1.safetensors")
        .refused(&["shard-1.safetensors is missing", "download"]);
    let name = "model.norm.weight";
    sharded(|i| i["weight_map"][name] = "../x".into()).refused(&[name, "plain file name"]);
    sharded(|i| i["weight_map"][name] = "/etc/passwd".into()).refused(&[name, "plain file name"]);
    sharded(|i| i["weight_map"]["lm_head.weight"] = "shard-0.safetensors".into()).refused(&[
        "lm_head.weight",
        "is not in",
        "shard-0",
    ]);
    let forget = |i: &mut Value| {
        i["weight_map"]
            .as_object_mut()
            .expect("an object")
            .remove(name);
    };
    sharded(forget).refused(&[name, "does not place it there"]);
    sharded(|i| i["weight_map"] = json!(3)).refused(&[INDEX, "not valid"]);
}

#[test]
fn wider_formats_of_the_same_numbers_give_the_same_bits() {
    let prompt = &expected("llama3").cases[1].prompt_ids;
    let run = |dir: &Path| {
        Rig::with(dir, ModelOptions::default())
            .complete(prompt, usize::MAX, 4)
            .logits
    };
    let widened = Copy::of("llama3").tensors(|tensors| {
        for (dtype, _, bytes) in tensors.values_mut() {
            *dtype = Dtype::F32;
            *bytes = bytes.chunks(2).flat_map(|b| [0, 0, b[0], b[1]]).collect();
        }
    });
    assert!(run(widened.path()) == run(&dir("llama3")));
}

#[test]
fn options_and_vocabulary_must_fit() {
    let with = |change: fn(&mut ModelOptions), vocab| {
        let mut options = ModelOptions::default();
        change(&mut options);
        ModelEngine::load(&dir("llama3"), Arc::new(Wordless(vocab)), options, |_| {})
    };
    let refused = |change: fn(&mut ModelOptions), vocab, says: &str| {
        let error = with(change, vocab)
            .err()
            .expect("must be refused")
            .to_string();
        assert!(error.contains(says), "{error:?} does not say {says:?}");
    };
    refused(|o| o.threads = Some(0), 384, "threads is 0");
    refused(|o| o.block_tokens = 0, 384, "block_tokens is 0");
    refused(
        |o| o.context_tokens = Some(4096),
        384,
        "context_tokens is 4096, expected 1 to 1024",
    );
    refused(|_| {}, 385, "the tokenizer has 385 ids, the model only 384");
    assert!(with(|o| o.context_tokens = Some(100), 300).is_ok());
}

#[test]
fn progress_ends_at_all_bytes() {
    let mut last = Progress {
        done_bytes: 0,
        total_bytes: 0,
    };
    let options = ModelOptions {
        threads: Some(1),
        ..ModelOptions::default()
    };
    ModelEngine::load(&dir("qwen2"), Arc::new(Wordless(384)), options, |now| {
        assert!(now.done_bytes > last.done_bytes);
        last = now;
    })
    .expect("a good checkpoint");
    assert!(last.total_bytes > 200_000 && last.done_bytes == last.total_bytes);
}
