//! Runs every house rule on this repository. It never repairs; the message says where and what.

use thalamus_tests::tidy::{Tree, Violation, banned, documents, floors, shape};

#[test]
fn dependencies_point_down() {
    expect_none(floors::dependencies_point_down(&Tree::of_repository()));
}

#[test]
fn pure_crates_are_pure() {
    let lock = include_str!("../../Cargo.lock");
    expect_none(floors::pure_crates_are_pure(&Tree::of_repository(), lock));
}

#[test]
fn panics_unwind() {
    expect_none(floors::panics_unwind(&Tree::of_repository()));
}

#[test]
fn files_are_short() {
    expect_none(shape::file_sizes(&Tree::of_repository()));
}

#[test]
fn files_say_what_they_are() {
    expect_none(shape::headers(&Tree::of_repository()));
}

#[test]
fn functions_fit_a_screen() {
    expect_none(shape::function_lengths(&Tree::of_repository()));
}

#[test]
fn banned_words_stand_nowhere() {
    expect_none(banned::words(&Tree::of_repository()));
}

#[test]
fn nothing_is_promised_in_comments() {
    expect_none(banned::promises(&Tree::of_repository()));
}

#[test]
fn hash_maps_are_not_walked_where_order_decides() {
    expect_none(banned::hash_map_walks(&Tree::of_repository()));
}

#[test]
fn no_file_names_a_folder_of_one_machine() {
    expect_none(banned::machine_paths(&Tree::of_repository()));
}

#[test]
fn the_table_of_decisions_names_real_code() {
    expect_none(documents::decisions(&Tree::of_repository()));
}

#[test]
fn every_kind_is_documented() {
    expect_none(documents::kinds(&Tree::of_repository()));
}

#[test]
fn every_subject_is_documented() {
    expect_none(documents::subjects(&Tree::of_repository()));
}

fn expect_none(violations: Vec<Violation>) {
    let lines: Vec<_> = violations.iter().map(ToString::to_string).collect();
    assert!(
        lines.is_empty(),
        "{} against the rules:\n{}",
        lines.len(),
        lines.join("\n")
    );
}
