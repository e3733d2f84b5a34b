//! The size of an attempt: what its choices share, and what each of them needs.
//!
//! Pure arithmetic over an admission; it never looks at a node.

use bus_schemas::messages::Admit;

/// What must be computed for an attempt: of the choices that still run, the front they share, and each whole.
pub(super) struct Shape {
    /// The only choice that runs; its output so far continues the shared front.
    only: Option<usize>,
    /// Tokens of the shared front.
    pub(super) tokens: u32,
    /// Tokens of each choice that runs.
    choices: Vec<u32>,
}

impl Shape {
    pub(super) fn of(admit: &Admit) -> Self {
        let prompt = admit.spec.prompt.len();
        let runs = |index: &u16| !admit.ended.contains(index);
        let alive: Vec<usize> = (0..admit.spec.choices)
            .filter(runs)
            .map(usize::from)
            .collect();
        let len = |choice: &usize| {
            let emitted = admit.emitted.get(*choice).map_or(0, Vec::len);
            u32::try_from(prompt + emitted).unwrap_or(u32::MAX)
        };
        let choices: Vec<u32> = alive.iter().map(len).collect();
        let only = alive.first().copied().filter(|_| alive.len() == 1);
        let prompt = u32::try_from(prompt).unwrap_or(u32::MAX);
        let tokens = only
            .and_then(|_| choices.first().copied())
            .unwrap_or(prompt);
        Self {
            only,
            tokens,
            choices,
        }
    }

    pub(super) fn shared(&self, admit: &Admit) -> Vec<u32> {
        let emitted = self.only.and_then(|choice| admit.emitted.get(choice));
        [
            admit.spec.prompt.as_slice(),
            emitted.map_or(&[][..], Vec::as_slice),
        ]
        .concat()
    }

    /// Blocks without which it cannot run: the full ones of the shared front once, and the rest of each choice.
    pub(super) fn blocks(&self, block_tokens: u32) -> u32 {
        if block_tokens == 0 {
            return 0;
        }
        let shared = self.tokens / block_tokens;
        let rest = |len: &u32| len.div_ceil(block_tokens).saturating_sub(shared);
        self.choices
            .iter()
            .map(rest)
            .fold(shared, u32::saturating_add)
    }
}

/// Tokens that an admission carries.
pub(super) fn tokens_of(admit: &Admit) -> usize {
    admit.spec.prompt.len() + admit.emitted.iter().map(Vec::len).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use bus_schemas::{RequestId, RequestSpec, Sampling, Stops, Trace};

    use super::*;

    #[test]
    fn a_single_choice_goes_on_from_what_it_emitted() {
        let admit = admit(1, vec![vec![7, 8, 9]], vec![]);
        let shape = Shape::of(&admit);
        assert_eq!((shape.tokens, shape.blocks(4)), (13, 4));
        assert_eq!(shape.shared(&admit)[10..], [7, 8, 9]);
        assert_eq!(tokens_of(&admit), 13);
    }

    #[test]
    fn choices_share_the_full_blocks_of_the_prompt() {
        let admit = admit(3, vec![vec![7; 10], vec![], vec![5; 3]], vec![]);
        let shape = Shape::of(&admit);
        // Two full blocks of four in a prompt of ten; the choices are 20, 10 and 13 tokens long.
        assert_eq!((shape.tokens, shape.blocks(4)), (10, 2 + 3 + 1 + 2));
        assert_eq!(shape.shared(&admit).len(), 10);
    }

    #[test]
    fn choices_that_ended_need_nothing() {
        let admit = admit(2, vec![vec![7; 100], vec![6]], vec![0]);
        let shape = Shape::of(&admit);
        assert_eq!((shape.tokens, shape.blocks(4)), (11, 3));
        assert_eq!(shape.shared(&admit)[10..], [6]);
        assert_eq!(shape.blocks(0), 0);
    }

    fn admit(choices: u16, emitted: Vec<Vec<u32>>, ended: Vec<u16>) -> Admit {
        let spec = RequestSpec {
            request: RequestId(1),
            model: String::new(),
            tenant: String::new(),
            salt: String::new(),
            prompt: vec![1; 10],
            choices,
            sampling: Sampling::default(),
            stops: Stops::default(),
            max_tokens: 1,
            priority: 0,
            trace: Trace::default(),
        };
        Admit {
            spec,
            emitted,
            ended,
            avoid: Vec::new(),
            alone: false,
        }
    }
}
