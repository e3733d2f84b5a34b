//! Who prefills for an owner that has promised already.

use super::*;

#[test]
fn an_owner_that_has_promised_is_given_another_helper_or_itself() {
    let nodes = [decode("d"), decode("e"), prefill("p"), prefill("q")];
    let none = BTreeMap::new();
    let given = |avoid: &[NodeRef]| {
        let owner = nodes[1].me;
        let ask = Ask {
            avoid,
            ..ask(5000, &none)
        };
        pair(place::choose_prefill(&nodes, owner, &ask))
    };
    assert_eq!(given(&[nodes[2].me]), Some(("e", Some("q"))));
    assert_eq!(given(&[nodes[2].me, nodes[3].me]), Some(("e", None)));
    assert_eq!(given(&[nodes[1].me]), None, "it is no owner");
}
