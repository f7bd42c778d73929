"""The scenes, in the order in which they are played.

`unknown-root-program` is the last: nothing cures its node but a reboot.
"""

from demo.endings import (
    play_exec_after,
    play_gone,
    play_text_patched,
    play_unknown_root_program,
)
from demo.identities import play_golden, play_patched, play_preloaded, play_sibling
from demo.jobs import play_build_helper, play_build_over, play_build_step, play_other_job
from demo.scene import Scene
from demo.thefts import (
    play_copied_token,
    play_passed_socket,
    play_replayed_evidence,
    play_stolen_proof,
    play_wrong_machine,
)

SCENES = (
    Scene(
        name="golden",
        tried="a known program asks for its identity and calls a relying party",
        expected="granted",
        play=play_golden,
    ),
    Scene(
        name="copied-token",
        tried="its token, presented from elsewhere: without a proof, and with another key's",
        expected="refused",
        play=play_copied_token,
    ),
    Scene(
        name="stolen-proof",
        tried="its token and its proof, heard on the way: sent again, and to another URL",
        expected="refused",
        play=play_stolen_proof,
    ),
    Scene(
        name="patched",
        tried="the same program with one byte changed, run by an ordinary user",
        expected="refused",
        play=play_patched,
    ),
    Scene(
        name="preloaded",
        tried="the program itself, started by its user with a library of the user's (LD_PRELOAD)",
        expected="refused",
        play=play_preloaded,
    ),
    Scene(
        name="sibling",
        tried="another known program, same user, same unit, asks for the same identity",
        expected="refused",
        play=play_sibling,
    ),
    Scene(
        name="passed-socket",
        tried="its connection to the attestor, in the hands of another process of its user",
        expected="refused",
        play=play_passed_socket,
    ),
    Scene(
        name="replayed-evidence",
        tried="recorded evidence, sent again",
        expected="refused",
        play=play_replayed_evidence,
    ),
    Scene(
        name="wrong-machine",
        tried="the sealed credential, taken to a second TPM",
        expected="does-not-open",
        play=play_wrong_machine,
    ),
    Scene(
        name="gone",
        tried="the golden process is killed",
        expected="revoked",
        play=play_gone,
    ),
    Scene(
        name="text-patched",
        tried="a golden process's text, changed with ptrace after it got its credential",
        expected="refused",
        play=play_text_patched,
    ),
    Scene(
        name="exec-after",
        tried="a golden process executes another known program after it got its credential",
        expected="revoked",
        play=play_exec_after,
    ),
    Scene(
        name="build-step",
        tried="a build's controller has a program launched, which signs the build",
        expected="granted",
        play=play_build_step,
    ),
    Scene(
        name="build-helper",
        tried="the same program, launched by a helper of the controller's that has not the job",
        expected="refused",
        play=play_build_helper,
    ),
    Scene(
        name="other-job",
        tried="the right program of the right controller, for another job",
        expected="refused",
        play=play_other_job,
    ),
    Scene(
        name="build-over",
        tried="the controller is killed",
        expected="revoked",
        play=play_build_over,
    ),
    Scene(
        name="unknown-root-program",
        tried="root runs a program that nobody knows",
        expected="revoked",
        play=play_unknown_root_program,
    ),
)
