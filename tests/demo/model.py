"""A small causal transformer in numpy with a hand-written backward pass, and LoRA adapters for its matrices.

Shapes: B sequences, T positions, D width, H heads, F inner width, V vocabulary.
Per layer: x += attention(rms(x)); x += down(relu(up(rms(x)))^2). Then rms and an output head of its own.
A matrix W (in, out) with an adapter (A, B) acts as W + (alpha / rank) * A @ B; with adapters only A and B get gradients.
"""

import json
import os

import numpy as np

from tokenizer import Tokenizer

FORMAT_VERSION = 1
EPSILON = 1e-5
LIMITS = {"vocabulary": 65536, "context": 4096, "width": 4096, "heads": 64, "inner": 16384, "layers": 64}


class Config:
    def __init__(self, vocabulary, context, width, heads, inner, layers):
        self.vocabulary, self.context, self.width = vocabulary, context, width
        self.heads, self.inner, self.layers = heads, inner, layers
        for name, limit in LIMITS.items():
            value = getattr(self, name)
            if type(value) is not int or not 1 <= value <= limit:
                raise ValueError(f"model config: {name} must be an integer from 1 to {limit}")
        if width % heads:
            raise ValueError("model config: width must be a multiple of heads")

    def shapes(self):
        shapes = {"embedding": (self.vocabulary, self.width), "position": (self.context, self.width)}
        for layer in range(self.layers):
            shapes[f"layer{layer}.attention_gain"] = (self.width,)
            shapes[f"layer{layer}.qkv"] = (self.width, 3 * self.width)
            shapes[f"layer{layer}.out"] = (self.width, self.width)
            shapes[f"layer{layer}.inner_gain"] = (self.width,)
            shapes[f"layer{layer}.up"] = (self.width, self.inner)
            shapes[f"layer{layer}.down"] = (self.inner, self.width)
        shapes["final_gain"] = (self.width,)
        shapes["head"] = (self.width, self.vocabulary)
        return shapes

    def matrices(self):
        """The names a LoRA adapter can be put on, in order of use."""
        return [name for name in self.shapes() if name == "head" or name.endswith((".qkv", ".out", ".up", ".down"))]


def initial_weights(config, seed, dtype=np.float32):
    rng = np.random.default_rng(seed)
    weights = {}
    for name, shape in config.shapes().items():
        if len(shape) == 1:
            weights[name] = np.ones(shape, dtype)
            continue
        deviation = 0.02 if name in ("embedding", "position") else shape[0] ** -0.5
        if name.endswith((".out", ".down")):
            deviation /= (2 * config.layers) ** 0.5
        weights[name] = (rng.standard_normal(shape) * deviation).astype(dtype)
    return weights


def initial_adapters(config, rank, seed, dtype=np.float32):
    """A random, B zero: the adapted model starts equal to the base model."""
    rng = np.random.default_rng(seed)
    shapes = config.shapes()
    adapters = {}
    for name in config.matrices():
        rows, columns = shapes[name]
        adapters[name + ".A"] = (rng.standard_normal((rows, rank)) * rows**-0.5).astype(dtype)
        adapters[name + ".B"] = np.zeros((rank, columns), dtype)
    return adapters


class Transformer:
    def __init__(self, config, weights, adapters=None, scale=1.0):
        self.config, self.weights, self.adapters, self.scale = config, weights, adapters, scale
        self._masks = {}

    def forward(self, tokens):
        """tokens (B, T) -> logits (B * T, V) and what `backward` needs."""
        batch, length = tokens.shape
        if length > self.config.context:
            raise ValueError(f"sequence of {length} tokens is longer than the context of {self.config.context}")
        saved = {"tokens": tokens}
        x = (self.weights["embedding"][tokens] + self.weights["position"][:length]).reshape(batch * length, -1)
        for layer in range(self.config.layers):
            x = x + self._attention(f"layer{layer}", x, batch, length, saved)
            hidden = self._rms(f"layer{layer}.inner_gain", x, saved)
            hidden = np.maximum(self._linear(f"layer{layer}.up", hidden, saved), 0)
            saved[f"layer{layer}.relu"] = hidden
            x = x + self._linear(f"layer{layer}.down", hidden * hidden, saved)
        return self._linear("head", self._rms("final_gain", x, saved), saved), saved

    def backward(self, saved, d_logits):
        """Gradients of the adapters if there are any, else of all weights."""
        gradients = {}
        batch, length = saved["tokens"].shape
        dx = self._rms_back("final_gain", self._linear_back("head", d_logits, saved, gradients), saved, gradients)
        for layer in reversed(range(self.config.layers)):
            d_hidden = self._linear_back(f"layer{layer}.down", dx, saved, gradients)
            d_hidden *= 2 * saved[f"layer{layer}.relu"]
            d_hidden = self._linear_back(f"layer{layer}.up", d_hidden, saved, gradients)
            dx = dx + self._rms_back(f"layer{layer}.inner_gain", d_hidden, saved, gradients)
            bottom = layer == 0 and self.adapters is not None
            d_attention = self._attention_back(f"layer{layer}", dx, batch, length, saved, gradients, bottom)
            if not bottom:
                dx = dx + d_attention
        if self.adapters is None:
            dx = dx.reshape(batch, length, -1)
            gradients["embedding"] = np.zeros_like(self.weights["embedding"])
            np.add.at(gradients["embedding"], saved["tokens"], dx)
            gradients["position"] = np.zeros_like(self.weights["position"])
            gradients["position"][:length] = dx.sum(axis=0)
        return gradients

    def _linear(self, name, x, saved):
        saved[name] = x
        y = x @ self.weights[name]
        if self.adapters is not None:
            reduced = x @ self.adapters[name + ".A"]
            saved[name + ".reduced"] = reduced
            y += (self.scale * reduced) @ self.adapters[name + ".B"]
        return y

    def _linear_back(self, name, dy, saved, gradients, need_input=True):
        if self.adapters is None:
            gradients[name] = saved[name].T @ dy
            return dy @ self.weights[name].T
        d_reduced = self.scale * (dy @ self.adapters[name + ".B"].T)
        gradients[name + ".B"] = self.scale * (saved[name + ".reduced"].T @ dy)
        gradients[name + ".A"] = saved[name].T @ d_reduced
        if not need_input:
            return None
        return dy @ self.weights[name].T + d_reduced @ self.adapters[name + ".A"].T

    def _rms(self, name, x, saved):
        inverse = 1 / np.sqrt((x * x).mean(axis=1, keepdims=True) + EPSILON)
        normal = x * inverse
        saved[name] = (normal, inverse)
        return normal * self.weights[name]

    def _rms_back(self, name, dy, saved, gradients):
        normal, inverse = saved[name]
        if self.adapters is None:
            gradients[name] = (dy * normal).sum(axis=0)
        d_normal = dy * self.weights[name]
        return inverse * (d_normal - normal * (d_normal * normal).mean(axis=1, keepdims=True))

    def _mask(self, length, dtype):
        if length not in self._masks:
            self._masks[length] = np.triu(np.full((length, length), -1e9, dtype), 1)
        return self._masks[length]

    def _attention(self, prefix, x, batch, length, saved):
        heads, size = self.config.heads, self.config.width // self.config.heads
        qkv = self._linear(prefix + ".qkv", self._rms(prefix + ".attention_gain", x, saved), saved)
        query, key, value = qkv.reshape(batch, length, 3, heads, size).transpose(2, 0, 3, 1, 4)
        weights = (query * size**-0.5) @ key.swapaxes(-1, -2) + self._mask(length, x.dtype)
        weights -= weights.max(axis=-1, keepdims=True)
        np.exp(weights, out=weights)
        weights /= weights.sum(axis=-1, keepdims=True)
        saved[prefix + ".attention"] = (query, key, value, weights)
        mixed = (weights @ value).transpose(0, 2, 1, 3).reshape(batch * length, heads * size)
        return self._linear(prefix + ".out", mixed, saved)

    def _attention_back(self, prefix, dy, batch, length, saved, gradients, bottom):
        heads, size = self.config.heads, self.config.width // self.config.heads
        query, key, value, weights = saved[prefix + ".attention"]
        d_mixed = self._linear_back(prefix + ".out", dy, saved, gradients)
        d_mixed = d_mixed.reshape(batch, length, heads, size).transpose(0, 2, 1, 3)
        d_value = weights.swapaxes(-1, -2) @ d_mixed
        d_weights = d_mixed @ value.swapaxes(-1, -2)
        d_scores = weights * (d_weights - (d_weights * weights).sum(axis=-1, keepdims=True))
        d_scores *= size**-0.5
        d_qkv = np.empty((batch, length, 3, heads, size), dy.dtype)
        d_qkv[:, :, 0] = (d_scores @ key).transpose(0, 2, 1, 3)
        d_qkv[:, :, 1] = (d_scores.swapaxes(-1, -2) @ query).transpose(0, 2, 1, 3)
        d_qkv[:, :, 2] = d_value.transpose(0, 2, 1, 3)
        d_qkv = d_qkv.reshape(batch * length, 3 * heads * size)
        # Below the first layer only the frozen embedding follows, so with adapters its gradient is not needed.
        d_normal = self._linear_back(prefix + ".qkv", d_qkv, saved, gradients, need_input=not bottom)
        return None if bottom else self._rms_back(prefix + ".attention_gain", d_normal, saved, gradients)


def cross_entropy(logits, targets):
    """Mean negative log-likelihood in nats, and its gradient by the logits."""
    targets = targets.reshape(-1)
    rows = np.arange(len(targets))
    probabilities = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    loss = float(-np.log(probabilities[rows, targets] + 1e-30).mean())
    probabilities[rows, targets] -= 1
    return loss, probabilities / len(targets)


class Adam:
    def __init__(self, parameters, beta1=0.9, beta2=0.95, clip=1.0):
        self.parameters, self.beta1, self.beta2, self.clip = parameters, beta1, beta2, clip
        self.count = 0
        self.mean = {name: np.zeros_like(value) for name, value in parameters.items()}
        self.square = {name: np.zeros_like(value) for name, value in parameters.items()}

    def step(self, gradients, learning_rate):
        self.count += 1
        norm = sum(float((value * value).sum()) for value in gradients.values()) ** 0.5
        shrink = min(1.0, self.clip / (norm + 1e-12))
        correction = learning_rate * (1 - self.beta2**self.count) ** 0.5 / (1 - self.beta1**self.count)
        for name, gradient in gradients.items():
            gradient = gradient * shrink
            self.mean[name] += (1 - self.beta1) * (gradient - self.mean[name])
            self.square[name] += (1 - self.beta2) * (gradient * gradient - self.square[name])
            self.parameters[name] -= correction * self.mean[name] / (np.sqrt(self.square[name]) + 1e-8)


def matmul_flops_per_token(config, length, rank=None):
    """(forward, backward) operations of the matrix products for one token; rank None: all weights are trained."""
    shapes = config.shapes()
    plain = sum(2 * shapes[name][0] * shapes[name][1] for name in config.matrices())
    attention = config.layers * 4 * length * config.width
    if rank is None:
        return plain + attention, 2 * (plain + attention)
    adapters = sum(2 * rank * sum(shapes[name]) for name in config.matrices())
    return plain + attention + adapters, plain + 2 * attention + 2 * adapters


def save_model(directory, config, weights, tokenizer, notes):
    os.makedirs(directory, exist_ok=True)
    np.savez(os.path.join(directory, "weights.npz"), **weights)
    tokenizer.save(os.path.join(directory, "tokenizer.json"))
    with open(os.path.join(directory, "config.json"), "w", encoding="ascii") as file:
        json.dump({"version": FORMAT_VERSION, "model": vars(config), "notes": notes}, file, indent=2, sort_keys=True)
        file.write("\n")


def load_model(directory):
    with open(os.path.join(directory, "config.json"), encoding="ascii") as file:
        stored = json.load(file)
    if stored.get("version") != FORMAT_VERSION:
        raise ValueError("the model's config.json has an unknown version")
    config = Config(**stored["model"])
    weights = load_arrays(os.path.join(directory, "weights.npz"), config.shapes())
    tokenizer = Tokenizer.load(os.path.join(directory, "tokenizer.json"))
    if tokenizer.size != config.vocabulary:
        raise ValueError("tokenizer and model disagree about the vocabulary's size")
    return config, weights, tokenizer


def load_arrays(path, shapes):
    """Exactly these arrays with exactly these shapes, finite float32; never pickled objects."""
    with np.load(path, allow_pickle=False) as stored:
        if set(stored.files) != set(shapes):
            raise ValueError(f"{os.path.basename(path)} holds other arrays than its config says")
        arrays = {name: stored[name] for name in shapes}
    for name, shape in shapes.items():
        if arrays[name].shape != shape or arrays[name].dtype != np.float32 or not np.isfinite(arrays[name]).all():
            raise ValueError(f"{os.path.basename(path)}: {name} is not a finite float32 array of shape {shape}")
    return arrays
