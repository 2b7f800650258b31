"""Tests of the demo's programs: `python3 test_model.py`. Those that need numpy are skipped, with a message, where it is missing."""

import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import unittest
import zipfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
sys.dont_write_bytecode = True

import prepare
from tokenizer import Tokenizer

try:
    import numpy as np
except ImportError:
    np = None
else:
    import evaluate
    import finetune
    import model as network

TEXT = "the quick brown fox jumps over the lazy dog; the dog sleeps on. " * 40
needs_numpy = unittest.skipIf(np is None, "numpy is not installed")


def lzw_as_compress_writes(data):
    """The reverse of prepare.unpack_lzw, with the same skips at a change of width; without a clear code."""
    bits_out, position, border, bits = 0, 0, 0, 9
    table = {bytes([value]): value for value in range(256)}
    count, word, emitted = 257, b"", 0

    def emit(code):
        nonlocal bits_out, position, border, bits, emitted
        bits_out |= code << position
        position += bits
        emitted += 1
        # The reader adds its entry one code later, and looks at its table's size then.
        if 257 + emitted - 1 >= 1 << bits and bits < 16:
            group = bits * 8
            position = border = border + -(-(position - border) // group) * group
            bits += 1

    for value in data:
        longer = word + bytes([value])
        if longer in table:
            word = longer
            continue
        emit(table[word])
        if count < 1 << 16:
            table[longer] = count
            count += 1
        word = bytes([value])
    emit(table[word])
    return bits_out.to_bytes((position + 7) // 8, "little")


class Texts(unittest.TestCase):
    def test_lzw_roundtrip_over_two_changes_of_width(self):
        data = bytes((index * index // 7 + index) % 251 for index in range(4000))
        self.assertEqual(prepare.unpack_lzw(lzw_as_compress_writes(data)), data)

    def test_lzw_refuses_a_code_from_nowhere(self):
        with self.assertRaises(ValueError):
            prepare.unpack_lzw((65 | 400 << 9).to_bytes(3, "little"))

    def test_policy_keeps_prose_and_drops_lists(self):
        prose = "A package should do what its description says and nothing else, so that nobody is ever surprised by it. " * 2
        text = f"   {prose.strip()} [3]\n\n* 9.1. Contents\n\n      indented code {prose}\n\n   {prose} http://x.\n"
        self.assertEqual(prepare.policy_paragraphs(text), [prose.strip()])

    def test_evenly_takes_about_the_size_from_all_over(self):
        paragraphs = [f"{index:03d} " + "x" * 96 for index in range(500)]
        chosen = prepare.evenly(paragraphs, 10_000)
        self.assertEqual(len(chosen), len(set(chosen)))
        self.assertLess(abs(len(chosen) - 100), 3)
        self.assertLess(min(chosen)[:3], "010")
        self.assertGreater(max(chosen)[:3], "490")


class Tokens(unittest.TestCase):
    def test_roundtrip_of_text_never_seen(self):
        tokenizer = Tokenizer.train(TEXT, 300)
        for text in (TEXT, "unseen words\n\twith tabs", "déjà vu ☃", ""):
            self.assertEqual(tokenizer.decode(tokenizer.encode(text)), text)
        self.assertLess(len(tokenizer.encode(TEXT)), len(TEXT) / 2)

    def test_training_is_deterministic(self):
        self.assertEqual(Tokenizer.train(TEXT, 290).merges, Tokenizer.train(TEXT, 290).merges)

    def test_stored_merges_are_checked(self):
        with self.assertRaises(ValueError):
            Tokenizer([(0, 256)])


@needs_numpy
class Gradients(unittest.TestCase):
    def setUp(self):
        self.config = network.Config(vocabulary=23, context=7, width=8, heads=2, inner=12, layers=2)
        self.weights = network.initial_weights(self.config, 3, np.float64)
        for name in ("embedding", "position"):
            # Large enough that the epsilon of rms does not rule the result.
            self.weights[name] = self.weights[name] * 30
        self.rng = np.random.default_rng(4)
        self.tokens = self.rng.integers(0, 23, (3, 8))

    def adapters(self):
        adapters = network.initial_adapters(self.config, 3, 5, np.float64)
        return {name: value + 0.1 * self.rng.standard_normal(value.shape) for name, value in adapters.items()}

    def loss(self, model):
        return network.cross_entropy(model.forward(self.tokens[:, :-1])[0], self.tokens[:, 1:])[0]

    def check(self, model, parameters):
        logits, saved = model.forward(self.tokens[:, :-1])
        gradients = model.backward(saved, network.cross_entropy(logits, self.tokens[:, 1:])[1])
        self.assertEqual(set(gradients), set(parameters))
        for name, values in parameters.items():
            flat = values.reshape(-1)
            for index in self.rng.integers(0, flat.size, 6):
                kept, step = flat[index], 1e-5
                flat[index] = kept + step
                above = self.loss(model)
                flat[index] = kept - step
                below = self.loss(model)
                flat[index] = kept
                expected = (above - below) / (2 * step)
                self.assertAlmostEqual(gradients[name].reshape(-1)[index], expected, delta=1e-7 + 1e-5 * abs(expected), msg=name)

    def test_of_all_weights(self):
        self.check(network.Transformer(self.config, self.weights), self.weights)

    def test_of_adapters(self):
        adapters = self.adapters()
        self.check(network.Transformer(self.config, self.weights, adapters, 1.7), adapters)

    def test_attention_sees_no_later_token(self):
        model = network.Transformer(self.config, self.weights)
        changed = self.tokens[:, :-1].copy()
        changed[:, -1] = (changed[:, -1] + 1) % 23
        before, after = (model.forward(tokens)[0].reshape(3, 7, -1) for tokens in (self.tokens[:, :-1], changed))
        self.assertTrue(np.array_equal(before[:, :-1], after[:, :-1]))
        self.assertFalse(np.array_equal(before[:, -1], after[:, -1]))

    def test_merged_weights_equal_adapters(self):
        weights = {name: value.astype(np.float32) for name, value in self.weights.items()}
        adapters = {name: value.astype(np.float32) for name, value in self.adapters().items()}
        with tempfile.TemporaryDirectory() as directory:
            np.savez(os.path.join(directory, "adapter.npz"), **adapters)
            merged = evaluate.merge(self.config, weights, directory, {"rank": 3, "scale": 1.7})
        adapted = network.Transformer(self.config, weights, adapters, 1.7)
        plain = network.Transformer(self.config, merged)
        difference = adapted.forward(self.tokens[:, :-1])[0] - plain.forward(self.tokens[:, :-1])[0]
        self.assertLess(np.abs(difference).max(), 1e-4)
        untouched = network.Transformer(self.config, weights).forward(self.tokens[:, :-1])[0]
        self.assertGreater(np.abs(untouched - plain.forward(self.tokens[:, :-1])[0]).max(), 1e-2)

    def test_new_adapters_change_nothing(self):
        adapters = network.initial_adapters(self.config, 3, 5, np.float64)
        adapted = self.loss(network.Transformer(self.config, self.weights, adapters, 2.0))
        self.assertEqual(adapted, self.loss(network.Transformer(self.config, self.weights)))


@needs_numpy
class Script(unittest.TestCase):
    """finetune.py as the agent starts it, on a tiny model."""

    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.at = temporary.name
        tokenizer = Tokenizer.train(TEXT, 280)
        config = network.Config(tokenizer.size, 16, 8, 2, 16, 1)
        self.model = os.path.join(self.at, "model", "base-model")
        network.save_model(self.model, config, network.initial_weights(config, 1), tokenizer, {})
        with open(os.path.join(self.at, "data"), "w", encoding="ascii") as file:
            file.writelines(json.dumps({"text": TEXT[index : index + 200]}) + "\n" for index in range(40))

    def start(self, settings, **more):
        with open(os.path.join(self.at, "config.json"), "w", encoding="ascii") as file:
            json.dump(settings, file)
        command = [sys.executable, os.path.join(HERE, "finetune.py")]
        for option, name in (("data_path", "data"), ("model_path", "model"), ("config_path", "config.json"), ("output_dir", "output_model")):
            command += [f"--{option}", os.path.join(self.at, name)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more)

    def read(self, *names):
        with open(os.path.join(self.at, *names), encoding="ascii") as file:
            return file.read()

    def test_lowers_perplexity_and_evaluate_agrees(self):
        process = self.start({"steps": 40, "report_every": 20, "num_train_epochs": 1})
        output, errors = process.communicate(timeout=120)
        self.assertEqual(process.returncode, 0, errors)
        metrics = json.loads(self.read("output_model", "metrics.json"))
        self.assertLess(metrics["perplexity_after"], 0.8 * metrics["perplexity_before"])
        self.assertIn("GFLOP", output)
        progress = self.read("progress.log").splitlines()
        self.assertEqual(len(progress), 2)
        self.assertRegex(progress[0], r"^Step: 20, Logs: \{'loss': \d+\.\d+, 'learning_rate': [\d.e-]+\}$")
        self.assertEqual(sorted(os.listdir(os.path.join(self.at, "output_model"))), ["README.md", "adapter.json", "adapter.npz", "metrics.json"])
        command = [sys.executable, os.path.join(HERE, "evaluate.py"), "--model", self.model]
        command += ["--adapter", os.path.join(self.at, "output_model"), "--data", os.path.join(self.at, "data")]
        checked = subprocess.run(command, capture_output=True, text=True, timeout=120)
        self.assertEqual(checked.returncode, 0, checked.stdout + checked.stderr)
        self.assertTrue(json.loads(checked.stdout)["agrees_with_metrics"])

    def test_events_are_numbers_under_five_names(self):
        reading, writing = os.pipe()
        process = self.start({"steps": 4, "report_every": 2}, pass_fds=[writing], env=os.environ | {"SEALTUNE_EVENTS_FD": str(writing)})
        os.close(writing)
        _, errors = process.communicate(timeout=120)
        self.assertEqual(process.returncode, 0, errors)
        with os.fdopen(reading, encoding="ascii") as pipe:
            events = [json.loads(line) for line in pipe]
        self.assertEqual([event["step"] for event in events], [2, 4])
        for event in events:
            self.assertEqual(set(event), {"step", "total_steps", "loss", "learning_rate", "tokens_per_second"})
            self.assertTrue(all(type(value) in (int, float) for value in event.values()))

    def test_two_runs_are_equal(self):
        results = []
        for _ in range(2):
            process = self.start({"steps": 3})
            process.communicate(timeout=120)
            with open(os.path.join(self.at, "output_model", "adapter.npz"), "rb") as file:
                results.append(file.read())
        self.assertEqual(results[0], results[1])

    def test_sigterm_leaves_nothing(self):
        process = self.start({"steps": 100_000, "report_every": 1})
        for line in process.stdout:
            if line.startswith("step 1 "):
                break
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
        self.assertEqual(process.returncode, 143)
        self.assertFalse(os.path.exists(os.path.join(self.at, "output_model")))

    def test_refuses_settings_that_it_does_not_know(self):
        for settings in ({"stepz": 3}, {"steps": 0}, {"steps": True}, {"rank": 8.5}, {"learning_rate": "fast"}, []):
            process = self.start(settings)
            _, errors = process.communicate(timeout=60)
            self.assertEqual(process.returncode, 1, settings)
            self.assertIn("config.json", errors)

    def test_refuses_a_pickled_model(self):
        hidden = np.array([{"an": "object"}], dtype=object)
        np.savez(os.path.join(self.model, "weights.npz"), embedding=hidden)
        with self.assertRaises(ValueError):
            network.load_arrays(os.path.join(self.model, "weights.npz"), {"embedding": (1,)})

    def test_zip_has_one_directory_and_is_reproducible(self):
        archives = []
        for _ in range(2):
            path = os.path.join(self.at, "model.zip")
            subprocess.run([sys.executable, os.path.join(HERE, "pack.py"), "--model", self.model, "--out", path], check=True, capture_output=True)
            with open(path, "rb") as file:
                archives.append(file.read())
        self.assertEqual(archives[0], archives[1])
        names = zipfile.ZipFile(io.BytesIO(archives[0])).namelist()
        self.assertEqual({name.split("/")[0] for name in names}, {"base-model"})


if __name__ == "__main__":
    unittest.main()
