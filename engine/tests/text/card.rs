//! Model cards: the same files have the same name, and what comes over the bus is whole or refused.

use engine::{
    card::{CardError, CardFetch, CardFiles, File, part},
    text::TextModel,
};
use proptest::{collection::vec, prelude::*};

use super::fixtures::{checkpoint, directory};

fn card(name: &str) -> CardFiles {
    CardFiles::read(&checkpoint(name), 16).expect("the checkpoint is whole")
}

/// Fetches an image part by part, as a gateway does.
fn fetch(hash: u64, image: &[u8]) -> Result<CardFiles, CardError> {
    let mut fetch = CardFetch::new(hash, image.len() as u64)?;
    while let Some(offset) = fetch.wanted() {
        fetch.add(offset, part(image, offset));
        fetch.add(offset, part(image, offset));
    }
    fetch.finish("tiny")
}

#[test]
fn a_fetched_card_makes_the_same_model() {
    let card = card("llama3");
    let fetched = fetch(card.hash(), &card.image()).expect("nothing was lost");
    assert_eq!((fetched.hash(), fetched.block_tokens()), (card.hash(), 16));
    let (there, here) = (
        TextModel::from_files(&card),
        TextModel::from_files(&fetched),
    );
    let (there, here) = (there.expect("a whole model"), here.expect("a whole model"));
    assert_eq!(
        there.encode("hello world", true).ok(),
        here.encode("hello world", true).ok()
    );
}

#[test]
fn large_cards_come_in_several_parts() {
    let filler = format!("{{\"filler\": \"{}\"}}", "x".repeat(300_000));
    let dir = directory(&[("config.json", filler)]);
    let card = CardFiles::read(dir.path(), 16).expect("a small card");
    let image = card.image();
    assert!(part(&image, 0).len() < image.len());
    assert_eq!(
        fetch(card.hash(), &image).expect("whole").get(File::Config),
        card.get(File::Config)
    );
}

#[test]
fn the_hash_tells_files_and_block_sizes_apart_but_not_names() {
    let card = card("llama3");
    let other_blocks = CardFiles::read(&checkpoint("llama3"), 32).expect("whole");
    assert_ne!(card.hash(), other_blocks.hash());
    assert_ne!(
        card.hash(),
        CardFiles::read(&checkpoint("qwen3"), 16)
            .expect("whole")
            .hash()
    );
    let renamed = CardFiles::from_image("another", &card.image()).expect("an image");
    assert_eq!(card.hash(), renamed.hash());
    let scripted = |bytes| CardFiles::scripted("script/hash", 4096, bytes, 16).hash();
    assert_ne!(scripted(16_384), scripted(8_192));
}

#[test]
fn a_scripted_card_makes_a_byte_level_model() {
    let card = CardFiles::scripted("script/echo", 4096, 16_384, 16);
    let model = TextModel::from_files(&card).expect("scripted models need no files");
    assert_eq!((model.context_tokens(), model.vocab_size()), (4096, 259));
}

#[test]
fn a_changed_or_unfinished_card_is_refused() {
    let card = card("qwen2");
    let mut image = card.image();
    let mut fetch_half = CardFetch::new(card.hash(), image.len() as u64).expect("a sane size");
    fetch_half.add(0, &image[..10]);
    assert!(matches!(
        fetch_half.finish("tiny"),
        Err(CardError::Image(_))
    ));
    image[1000] ^= 1;
    assert!(matches!(
        fetch(card.hash(), &image),
        Err(CardError::Hash { .. })
    ));
    assert!(matches!(
        CardFetch::new(1, u64::MAX),
        Err(CardError::TooLarge { .. })
    ));
}

#[test]
fn parts_that_are_not_wanted_change_nothing() {
    let mut fetch = CardFetch::new(0, 4).expect("a sane size");
    fetch.add(1, b"late");
    fetch.add(0, b"too long");
    fetch.add(u64::MAX, b"far");
    assert_eq!(fetch.wanted(), Some(0));
    assert_eq!(part(b"abc", 3), b"");
    assert_eq!(part(b"abc", u64::MAX), b"");
}

proptest! {
    #[test]
    fn garbage_is_never_a_card(bytes in vec(any::<u8>(), 0..200), cut in 0usize..500) {
        prop_assert!(CardFiles::from_image("x", &bytes).is_err());
        let image = CardFiles::scripted("script/hash", 64, 256, 16).image();
        let cut = cut % image.len();
        prop_assert!(CardFiles::from_image("x", &image[..cut]).is_err());
        let longer = [image, bytes.clone()].concat();
        prop_assert!(CardFiles::from_image("x", &longer).is_err() || bytes.is_empty());
    }
}
