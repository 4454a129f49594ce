//! SIGINT while a runner runs.

use std::os::unix::process::ExitStatusExt;

use ringloop::DriverKind;
use uring_tests::on_both_drivers;
use uring_tests::scene::Scene;

/// The program in one scene.
fn play(scene: &str, kind: DriverKind) -> Scene {
    Scene::start(env!("CARGO_BIN_EXE_interrupted"), scene, kind)
}

fn interrupt(scene: &Scene) {
    scene.signal(libc::SIGINT);
}

fn ends_well(mut scene: Scene) {
    scene.says("default");
    scene.says("end");
    assert!(scene.ended().success());
}

fn ends_by_the_signal(mut scene: Scene) {
    scene.says("");
    assert_eq!(scene.ended().signal(), Some(libc::SIGINT));
}

on_both_drivers! {
    /// Waiting, and computing: then it is cancelled where it waits next.
    fn rnr_09_an_interrupt_cancels_the_main_task(kind: DriverKind) {
        let mut scene = play("wait", kind);
        scene.says("ready");
        interrupt(&scene);
        scene.says("interrupted");
        ends_well(scene);
        let mut scene = play("compute", kind);
        scene.says("ready");
        interrupt(&scene);
        scene.go_on();
        scene.says("interrupted");
        ends_well(scene);
    }

    /// And the runner can run again after one that was interrupted.
    fn rnr_09_an_interrupt_that_is_caught_lets_the_main_task_end(kind: DriverKind) {
        let mut scene = play("catch", kind);
        scene.says("ready");
        interrupt(&scene);
        scene.says("cleaned up");
        scene.says("value 7");
        ends_well(scene);
        let mut scene = play("again", kind);
        scene.says("ready");
        interrupt(&scene);
        scene.says("interrupted");
        scene.says("default");
        scene.says("ready");
        interrupt(&scene);
        scene.says("cleaned up");
        scene.says("value 7");
        ends_well(scene);
    }

    /// Even while the main task computes and will never wait again.
    fn rnr_09_a_second_interrupt_ends_the_process(kind: DriverKind) {
        let mut scene = play("refuse", kind);
        scene.says("ready");
        interrupt(&scene);
        scene.says("goes on");
        interrupt(&scene);
        ends_by_the_signal(scene);
    }

    /// The main task ended without an await; or it has ended and the rest is being cleaned up.
    fn rnr_09_an_interrupt_that_nobody_hears_of_ends_the_process(kind: DriverKind) {
        let mut scene = play("deaf", kind);
        scene.says("ready");
        interrupt(&scene);
        scene.go_on();
        ends_by_the_signal(scene);
        let mut scene = play("closing", kind);
        scene.says("value 1");
        scene.says("default");
        scene.says("ready");
        interrupt(&scene);
        ends_by_the_signal(scene);
    }

    /// A loop exit leaves the run before the main task hears of it. One that it heard of is not repeated.
    fn rnr_09_an_interrupt_is_not_lost_with_a_loop_exit(kind: DriverKind) {
        let mut scene = play("exit", kind);
        scene.says("ready");
        scene.go_on();
        scene.says("left with 1");
        scene.says("end");
        assert!(scene.ended().success());
        let mut scene = play("exit", kind);
        scene.says("ready");
        interrupt(&scene);
        scene.go_on();
        ends_by_the_signal(scene);
    }

    fn rnr_10_an_interrupt_of_a_task_cancelled_already_is_no_interrupt(kind: DriverKind) {
        let mut scene = play("cancelled", kind);
        scene.says("ready");
        interrupt(&scene);
        scene.says("cancelled");
        ends_well(scene);
    }

    /// Ignored by the program, in another thread, without a descriptor for it.
    fn rnr_11_where_no_handler_is_possible_the_signal_keeps_its_meaning(kind: DriverKind) {
        let mut scene = play("ignored", kind);
        scene.says("ready");
        interrupt(&scene);
        interrupt(&scene);
        scene.go_on();
        scene.says("value 1");
        scene.says("not default");
        scene.says("end");
        assert!(scene.ended().success());
        for scene in ["thread", "descriptors"] {
            let mut scene = play(scene, kind);
            scene.says("ready");
            interrupt(&scene);
            ends_by_the_signal(scene);
        }
    }
}
