//! A worker core with 256 rows that decode. It never runs an engine: results are made up.

use anyhow::{Context, Result, ensure};
use bus_schemas::{
    Meta, NodeRef, Placement, Roles,
    messages::{Admit, AnyMessage, Bound, Pass, Reserve},
};
use engine::text::TextModel;
use logic::{
    Core, Micros,
    batch::{Drawn, StepPlan, StepResult},
    role::worker::{self, Worker},
};

use crate::{
    BLOCK_TOKENS, MINUTE_US, MODEL, ROWS, WORKER_SLOTS, admit_of, meta, node, report, spec,
};

/// One step of 256 decoding rows: result in, tokens and next plan out.
pub(crate) fn step() -> Result<()> {
    let me = node(1)?;
    let (router, gateway) = (node(2)?, node(3)?);
    let mut worker = Worker::new(worker_config(me));
    let mut out = Vec::new();
    let mut now = Micros(MINUTE_US);
    for request in 1..=u128::from(ROWS) {
        let placement = Placement(1);
        let admit = Admit {
            spec: spec(request, 64),
            ..admit_of(request)
        };
        let reserve = Reserve {
            placement,
            gateway,
            prefill: None,
            admit,
        };
        worker.handle(now, letter(meta(router, me, request), reserve), &mut out);
        worker.handle(
            now,
            letter(meta(gateway, me, request), Bound { placement }),
            &mut out,
        );
    }
    let mut steps = 0;
    let mut plan = next_plan(&mut out).context("bound requests are run")?;
    while plan.rows.len() < ROWS as usize || plan.rows.iter().any(|r| r.tokens.len() > 1) {
        steps += 1;
        ensure!(
            steps < 1000,
            "only {} rows after {steps} steps",
            plan.rows.len()
        );
        worker.handle(now, worker::Input::Stepped(result(&plan)), &mut out);
        plan = next_plan(&mut out).context("a step follows")?;
    }
    let mut plan = Some(plan);
    report("worker, one step of 256 decoding rows", "step", 10, || {
        for _ in 0..10 {
            now = now.after(20);
            let Some(done) = plan.take() else { return };
            out.clear();
            worker.handle(now, worker::Input::Stepped(result(&done)), &mut out);
            plan = next_plan(&mut out);
        }
    });
    let rows = plan.map_or(0, |p| p.rows.len());
    ensure!(rows == ROWS as usize, "{rows} rows are left");
    Ok(())
}

fn letter(meta: Meta, message: impl Into<AnyMessage>) -> worker::Input {
    worker::Input::Letter(meta, message.into())
}

fn next_plan(out: &mut Vec<worker::Effect>) -> Option<StepPlan> {
    let plan = out.drain(..).find_map(|effect| match effect {
        worker::Effect::Step(plan) => Some(plan),
        _ => None,
    });
    out.clear();
    plan
}

fn result(plan: &StepPlan) -> StepResult {
    let drawn = || Drawn {
        id: 65,
        logprob: 0.0,
        top: Vec::new(),
    };
    let rows = plan
        .rows
        .iter()
        .map(|row| row.draws.iter().map(|_| drawn()).collect());
    StepResult {
        number: plan.number,
        rows: rows.collect(),
        elapsed_us: 100,
    }
}

fn worker_config(me: NodeRef) -> worker::Config {
    worker::Config {
        me,
        roles: Roles::WORKER,
        model: MODEL.to_owned(),
        card: 1,
        slots: WORKER_SLOTS,
        quarantined: Vec::new(),
        block_tokens: BLOCK_TOKENS,
        context_tokens: 32_768,
        vocabulary: TextModel::byte_level("script/hash").vocabulary(),
        fabric: Vec::new(),
        admin: String::new(),
        step_tokens_max: 2048,
        chunk_tokens_max: 512,
        rows_max: ROWS as usize,
        jobs_max: 1024,
        expected_output: 256,
        drill_preempt_after: None,
        pass: Pass {
            a: 100.0,
            c: 1.0,
            d: 1.0,
            e: 1.0,
        },
        secret: [7; 32],
    }
}
