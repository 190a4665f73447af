"""lossctl plugin check and install: a plugin is tried as the daemon tries it, in a process, whatever the plugin does."""

import os
import pathlib
import shutil
import subprocess
import tempfile
import time
import unittest

from daemon import program
from isolation import PluginDaemon, built, until
from plugin_files import EXAMPLES, INCLUDE, build
from test_loading import VARIANTS

# Where the daemon's folder would be at fault, or where the daemon has more than its own functions.
NEEDS_A_DAEMON = {"clash_own"}
QUICK = ("--load-timeout", "2", "--callback-timeout", "0.5")


class Case(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="lossd-check-"))
        self.folder.chmod(0o755)
        self.addCleanup(shutil.rmtree, self.folder)

    def lossctl(self, *arguments):
        return subprocess.run([program("lossctl"), "plugin", *map(str, arguments)], capture_output=True, text=True,
                              timeout=60)

    def hinge(self, *changes, name="hinge"):
        """The hinge of Plugins/Examples with its source changed."""
        text = (EXAMPLES / "hinge.c").read_text()
        for old, new in changes:
            self.assertEqual(text.count(old), 1, old)
            text = text.replace(old, new)
        source = self.folder / f"{name}.c"
        source.write_text(text)
        build(source, self.folder / f"{name}.so", "-Wno-error", "-pthread")
        return self.folder / f"{name}.so"


class Loading(Case):
    def test_every_wicked_library_comes_to_what_the_daemon_says_of_it(self):
        (self.folder / "to").mkdir(0o755)
        for name, reason in VARIANTS.items():
            path = built() / "load" / f"{name}.so"
            for arguments in (("check", path), ("install", path, "--folder", self.folder / "to")):
                with self.subTest(name, command=arguments[0]):
                    result = self.lossctl(*arguments, *QUICK)
                    if reason is None:
                        self.assertEqual(result.returncode, 0, result.stderr)
                        continue
                    self.assertEqual(result.returncode, 1, result.stdout + result.stderr)
                    if name not in NEEDS_A_DAEMON:
                        self.assertIn(reason.replace("700 ms", "2000 ms (plugins.load_timeout)"), result.stderr)
                    self.assertIn(f"{path}: ", result.stderr)
        self.assertEqual({path.stem for path in (self.folder / "to").iterdir()},
                         {name for name, reason in VARIANTS.items() if reason is None})

    def test_what_crashes_or_hangs_when_it_is_unloaded_is_said_to_run_in_a_process(self):
        for name, text in (("stop_crash", "was killed by SIGSEGV"), ("destructor_hang", "not ended within 2000 ms")):
            result = self.lossctl("check", built() / "load" / f"{name}.so", *QUICK)
            self.assertEqual(result.returncode, 0, result.stderr)
            self.assertIn("not fit for the daemon and runs in a process of its own: when it was unloaded", result.stdout)
            self.assertIn(text, result.stdout)

    def test_a_function_that_no_data_set_can_be_cut_for_is_noted_and_taken(self):
        for changes, text in (
                ((), None),
                ([("LOSSD_INPUT_REQUIRED | LOSSD_INPUT_ROWS, {0, 0}},\n    {\"target\"", "LOSSD_INPUT_REQUIRED, {0, 0}},\n    {\"target\""),
                  ("\"-1 or 1\", FLOAT32, LOSSD_INPUT_REQUIRED | LOSSD_INPUT_ROWS", "\"-1 or 1\", FLOAT32, LOSSD_INPUT_REQUIRED")],
                 "hinge: no input is declared to have rows (LOSSD_INPUT_ROWS in plugin.h)"),
                ([("LOSSD_OUTPUT_DEFAULT | LOSSD_OUTPUT_ROWS", "LOSSD_OUTPUT_DEFAULT"),
                  ("\"like input\", LOSSD_OUTPUT_ROWS", "\"like input\", 0")],
                 "hinge: no output is declared to have rows (LOSSD_OUTPUT_ROWS in plugin.h)")):
            result = self.lossctl("check", self.hinge(*changes))
            self.assertEqual(result.returncode, 0, result.stderr)
            self.assertEqual(result.stdout.count("--batch-size"), 0 if text is None else 1)
            self.assertIn(text or "hinge 1.0", result.stdout)

    def test_threads_of_a_constructor_do_no_harm_and_are_said(self):
        for name in ("constructor_thread", "constructor_spins"):
            result = self.lossctl("check", built() / "load" / f"{name}.so")
            self.assertEqual(result.returncode, 0, result.stderr)
            self.assertIn("stays in memory (pinned)", result.stdout)

    def test_threads_of_openmp_in_a_constructor_do_no_harm(self):
        source = self.folder / "omp.c"
        source.write_text('#include "hinge_own.c"\nstatic volatile int sink;\n'
                          "__attribute__((constructor)) static void begin(void) {\n"
                          "#pragma omp parallel num_threads(4)\n  sink++;\n}\n")
        shutil.copy(EXAMPLES / "hinge.c", self.folder / "hinge_own.c")
        made = subprocess.run(["cc", "-std=gnu11", "-O2", "-shared", "-fPIC", "-fopenmp", "-I", INCLUDE, "-o",
                               self.folder / "omp.so", source], capture_output=True, text=True)
        if made.returncode:
            self.skipTest(made.stderr)
        for arguments in (("check",), ("check", "--gradients")):
            result = self.lossctl(arguments[0], self.folder / "omp.so", *arguments[1:])
            self.assertEqual(result.returncode, 0, result.stderr)
            self.assertIn("stays in memory (pinned)", result.stdout)

    def test_names_of_the_daemons_own_are_refused_with_its_words(self):
        for changes, text in (
                ([('LOSSD_KIND_LOSS, "hinge"', 'LOSSD_KIND_LOSS, "softmax"')],
                 "the function softmax exists already, in the plugin catalogue"),
                ([('LOSSD_ABI_MINOR, "hinge"', 'LOSSD_ABI_MINOR, "catalogue"')], "the plugin catalogue is a part of the daemon")):
            for arguments in ((), ("--gradients",)):
                result = self.lossctl("check", self.hinge(*changes), *arguments)
                self.assertEqual(result.returncode, 1, result.stdout)
                self.assertIn(text, result.stderr)
                self.assertIn(str(self.folder / "hinge.so"), result.stderr)

    def test_a_process_of_a_check_is_confined_as_the_daemons(self):
        path = self.hinge(("#include <lossd/plugin.h>", "#include <lossd/plugin.h>\n#include <stdio.h>\n"
                           "__attribute__((constructor)) static void spy(void) {\n"
                           '  FILE *file = fopen("/etc/passwd", "r");\n  if (file) __builtin_trap();\n}\n'))
        result = self.lossctl("check", path)
        self.assertEqual(result.returncode, 0, result.stderr)

    def test_a_library_that_lies_elsewhere_is_refused_with_the_rule_by_check_and_daemon_alike(self):
        (self.folder / "help.c").write_text("int help(void) { return 1; }\n")
        subprocess.run(["cc", "-shared", "-fPIC", "-o", self.folder / "libhelp.so", self.folder / "help.c"], check=True)
        source = self.folder / "needs.c"
        source.write_text('#include "own.c"\nint help(void);\nint (*use)(void) = help;\n')
        shutil.copy(EXAMPLES / "hinge.c", self.folder / "own.c")
        for place in (str(self.folder), "$ORIGIN"):
            with PluginDaemon() as daemon:
                build(source, daemon.folder / "needs.so", f"-L{self.folder}", "-lhelp", f"-Wl,-rpath,{place}")
                shutil.copy(self.folder / "libhelp.so", daemon.folder / "libhelp.so")
                until(lambda: "needs.so" in daemon.refused(), daemon.log)
                reason = daemon.refused()["needs.so"]["last_reason"]
                self.assertIn("libhelp.so: cannot open shared object file", reason)
                self.assertIn("may need libraries of /lib, /lib64, /usr/lib, /usr/lib64, /usr/local/lib alone", reason)
                for arguments in ((), ("--gradients",)):
                    result = self.lossctl("check", daemon.folder / "needs.so", *arguments)
                    self.assertEqual(result.returncode, 1)
                    self.assertIn(f"needs.so: {reason}", result.stderr)

    def test_nothing_is_left_running(self):
        library = self.folder / "constructor_hang.so"  # a path of this test's own: others load theirs meanwhile
        shutil.copy(built() / "load" / "constructor_hang.so", library)
        begin = time.monotonic()
        self.lossctl("check", library, *QUICK)
        self.assertLess(time.monotonic() - begin, 20)
        names = []
        for number in filter(str.isdigit, os.listdir("/proc")):
            try:
                names.append(pathlib.Path(f"/proc/{number}/cmdline").read_bytes())
            except OSError:
                pass
        self.assertFalse([name for name in names if os.fsencode(library) in name])


class Calls(Case):
    SLOPE = "x * y < 1 ? -y : 0"

    def wrong(self, code, *arguments):
        """The hinge whose slope does `code` before."""
        path = self.hinge((f"return {self.SLOPE};", f"{code} return {self.SLOPE};"))
        return self.lossctl("check", path, "--gradients", *QUICK, *arguments)

    def named(self, result):
        self.assertNotEqual(result.returncode, 0, result.stdout)
        self.assertIn("hinge: ", result.stderr)
        self.assertIn("asked for loss, grad.input with attributes (", result.stderr)
        self.assertIn("reduction=", result.stderr)
        self.assertRegex(result.stderr, r"inputs \(.*input: float32 \[4, 5\] of -?\d")

    def test_a_loss_that_loops_is_ended_and_named_with_its_request(self):
        result = self.wrong("for (volatile int i = 1; i;) {}")
        self.assertIn("a callback of the plugin hinge takes longer than limits.callback_timeout, 500 ms", result.stderr)
        self.named(result)

    def test_a_crash_is_named_with_its_signal_and_its_request(self):
        for code, name in (("{ volatile int *volatile nowhere = 0; *nowhere = 1; }", "SIGSEGV"), ("__builtin_trap();", "SIGILL"),
                           ("{ extern void abort(void); abort(); }", "SIGABRT")):
            result = self.wrong(code)
            self.assertIn(f"the process of the plugin hinge was killed by {name}", result.stderr)
            self.named(result)

    def test_an_exit_is_named_too(self):
        result = self.wrong("{ extern void _exit(int); _exit(3); }")
        self.assertIn("the process of the plugin hinge exited with status 3", result.stderr)
        self.named(result)

    def test_big_shapes_go_by_shared_memory(self):
        path = self.hinge()
        # A gradient of 6,400 bytes does not come with the process's message.
        result = self.lossctl("check", path, "--gradients", "--shape", "input=40x40", "--shape", "target=40x40",
                              "--attr", "reduction=sum")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("agrees with finite differences at 1600 points", result.stdout)


class Types(Case):
    """A loss that has a branch of its own for each type; -DWRONG=TYPE spoils the gradient of one, -DFALSE=TYPE the loss."""

    SOURCE = r"""
#include <lossd/plugin.h>
#include <string.h>
static double get(const lossd_tensor *t, int64_t i) {
  uint32_t bits;
  float narrow;
  switch (t->data_type) {
    case LOSSD_FLOAT64: return ((const double *)t->data)[i];
    case LOSSD_FLOAT32: return ((const float *)t->data)[i];
    case LOSSD_FLOAT16: return (double)((const _Float16 *)t->data)[i];
    default:
      bits = (uint32_t)((const uint16_t *)t->data)[i] << 16;
      memcpy(&narrow, &bits, 4);
      return narrow;
  }
}
static void put(const lossd_tensor *t, int64_t i, double value) {
  uint32_t bits;
  float narrow = (float)value;
  switch (t->data_type) {
    case LOSSD_FLOAT64: ((double *)t->data)[i] = value; break;
    case LOSSD_FLOAT32: ((float *)t->data)[i] = narrow; break;
    case LOSSD_FLOAT16: ((_Float16 *)t->data)[i] = (_Float16)narrow; break;
    default:
      memcpy(&bits, &narrow, 4);
      ((uint16_t *)t->data)[i] = (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
  }
}
static int32_t plan(const lossd_call *call, lossd_plan *plan, lossd_error *error) {
  const lossd_tensor *x = &call->inputs[0];
  (void)error;
  plan->outputs[0].data_type = plan->outputs[1].data_type = x->data_type;
  plan->outputs[0].flags = LOSSD_PLANNED_REDUCED;
  plan->outputs[1].rank = x->rank;
  memcpy(plan->outputs[1].shape, x->shape, x->rank * sizeof *x->shape);
  plan->rows = x->rank ? x->shape[0] : 1;
  plan->pass_count = 1;
  plan->passes[0].units = x->element_count;
  plan->passes[0].unit_cost_ns = 1;
  return LOSSD_OK;
}
static int32_t run(const lossd_call *call, const lossd_chunk *chunk, lossd_error *error) {
  const lossd_tensor *x = &call->inputs[0];
  (void)error;
  for (int64_t i = chunk->begin; i < chunk->end; i++) {
    double value = get(x, i), half = 0.5 * value * value;
    chunk->accumulator[0] += x->data_type == FALSE ? BY * half : half;
    if (call->wanted & 2) put(&call->outputs[1], i, x->data_type == WRONG ? BY * value : value);
  }
  return LOSSD_OK;
}
static int32_t finish(const lossd_function *function, const lossd_value *attributes, const double *sums,
                      double *values, uint64_t *present, lossd_error *error) {
  (void)function, (void)error, (void)attributes;
  values[0] = sums[0];
  *present = 1;
  return LOSSD_OK;
}
#define TYPES LOSSD_TYPE_BIT(LOSSD_FLOAT64) | LOSSD_TYPE_BIT(LOSSD_FLOAT32) | LOSSD_TYPE_BIT(LOSSD_FLOAT16) \
  | LOSSD_TYPE_BIT(LOSSD_BFLOAT16)
#define NONE {LOSSD_VALUE_NONE, 0, {0}}
static const lossd_input inputs[] = {{"input", "any", TYPES, LOSSD_INPUT_REQUIRED, {0, 0}}};
static const lossd_output outputs[] = {{"loss", "scalar", LOSSD_OUTPUT_DEFAULT, -1, {0, 0}},
                                       {"grad.input", "like input", 0, -1, {0, 0}}};
static const char *const sums[] = {"loss_sum"}, *const values[] = {"loss"};
#define FLOAT(x) {LOSSD_VALUE_FLOAT, 0, {.floating = x}}
#define INT(x) {LOSSD_VALUE_INT, 0, {.integer = x}}
static const lossd_attribute attributes[] = {
    {"margin", "unused", ATTRIBUTE, 0, DEFAULT, LEAST, MOST, 0, {0, 0}}};
static const lossd_function square = {
    sizeof square, LOSSD_KIND_LOSS, "square", "half the square", inputs, outputs, attributes, sums,
    values, 1, 2, 1, 1, 1, 0, 0, plan, run, 0, .finish = finish};
static const lossd_function *const functions[] = {&square};
static const lossd_plugin plugin = {sizeof plugin, LOSSD_ABI_MAJOR, LOSSD_ABI_MINOR, "square", "1.0",
                                    functions, 1, 0, 0, 0};
const lossd_plugin *lossd_plugin_entry(const lossd_host *host) { return host ? &plugin : 0; }
"""

    def square(self, **defines):
        defines = {"WRONG": "99u", "FALSE": "99u", "BY": "1.05", "ATTRIBUTE": "LOSSD_VALUE_FLOAT", "DEFAULT": "FLOAT(1)",
                   "LEAST": "FLOAT(0)", "MOST": "FLOAT(2)", **defines}
        (self.folder / "square.c").write_text(self.SOURCE)
        made = subprocess.run(
            ["cc", "-std=gnu11", "-O2", "-shared", "-fPIC", "-fvisibility=hidden", "-I", INCLUDE, "-o",
             self.folder / "square.so", self.folder / "square.c",
             *(f"-D{key}={value}" for key, value in defines.items())], capture_output=True, text=True)
        if "_Float16" in made.stderr:
            self.skipTest("the compiler has no _Float16")
        self.assertEqual(made.returncode, 0, made.stderr)
        return self.folder / "square.so"

    def test_right_gradients_are_confirmed_in_every_type(self):
        path = self.square()
        for seed in range(1, 6):
            result = self.lossctl("check", path, "--gradients", "--seed", seed)
            self.assertEqual(result.returncode, 0, result.stderr)
            for name in ("float32", "float16", "bfloat16"):
                self.assertIn(f"{name} agrees with float64 to ", result.stdout)

    def test_a_wrong_branch_of_one_type_is_found(self):
        for number, name, by in ((1, "float32", "2.0"), (1, "float32", "1.001"), (3, "float16", "1.01"),
                                 (4, "bfloat16", "1.05"), (4, "bfloat16", "-1.0")):
            result = self.lossctl("check", self.square(WRONG=f"{number}u", BY=by), "--gradients")
            self.assertEqual(result.returncode, 1, f"{name} by {by}: {result.stdout}")
            self.assertRegex(result.stderr, rf"grad\.input\[\d+\] is \S+ in {name}, \S+ in float64")
        result = self.lossctl("check", self.square(FALSE="1u"), "--gradients")
        self.assertRegex(result.stderr, r"loss\[0\] is \S+ in float32, \S+ in float64")
        # In the widest type, the differences find it.
        result = self.lossctl("check", self.square(WRONG="2u"), "--gradients")
        self.assertRegex(result.stderr, r"grad\.input\[\d+\] is \S+, differences of loss give")

    def test_defaults_that_nobody_may_give_are_refused(self):
        for defines, text in (
                (dict(DEFAULT="FLOAT(3)"), "has the default 3.0, over its maximum 2.0"),
                (dict(DEFAULT="FLOAT(-1)"), "has the default -1.0, under its minimum 0.0"),
                (dict(DEFAULT="FLOAT(0.0/0.0)"), "has the default "),
                (dict(LEAST="FLOAT(5)", DEFAULT="NONE"), "has the minimum 5.0, over its maximum 2.0"),
                (dict(ATTRIBUTE="LOSSD_VALUE_INT", DEFAULT="INT(3)", LEAST="INT(0)", MOST="INT(2)"),
                 "has the default 3, over its maximum 2")):
            result = self.lossctl("check", self.square(**defines))
            self.assertEqual(result.returncode, 1, result.stdout)
            self.assertIn("plugin refused: square's attribute 0 " + text, result.stderr)
        self.assertEqual(self.lossctl("check", self.square(DEFAULT="FLOAT(2)")).returncode, 0)


if __name__ == "__main__":
    unittest.main()
