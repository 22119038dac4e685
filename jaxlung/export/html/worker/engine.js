// Runs the plan of a network (jaxlung/export/html/plan.py) by engine.c's operations.

const STACK = 65536; // bytes; the weights follow
const PAGE = 65536;
const LANES = 8;
// How many of an operation's first arguments are places in the memory.
const PLACES = { normalize: 1, convolve: 4, group_statistics: 5, scale_and_relu: 3, pool: 2 };

export class Engine {
  // plan: {size, outputs, members, kernels, vectors (how many of each member), steps, image, logits,
  // bytes}. weights: the kernels' float16, of all members, as low bytes, then as high bytes; then
  // the vectors, float32.
  constructor(code, plan, weights) {
    this.plan = plan;
    const { members, kernels, vectors, bytes } = plan;
    this.memory = new WebAssembly.Memory({ initial: Math.ceil(bytes / PAGE) });
    const module = new WebAssembly.Module(code);
    this.calls = new WebAssembly.Instance(module, { env: { memory: this.memory } }).exports;
    const count = kernels * members;
    const tail = weights.slice(2 * count); // a copy, which lies at a multiple of 4
    const values = new Float32Array(tail.buffer, 0, vectors * members);
    // What is packed lies where the tensors will: their borders have to be 0 again.
    const from = STACK + 4 * (kernels + vectors);
    const own = new Uint8Array(this.memory.buffer);
    this.members = Array.from({ length: members }, (_, i) => {
      const place = Math.min(from, own.length); // of the packed bytes
      const need = place + 2 * kernels - own.length;
      if (need > 0) throw new Error("the plan leaves too little memory for its weights");
      own.set(weights.subarray(i * kernels, (i + 1) * kernels), place);
      own.set(weights.subarray(count + i * kernels, count + (i + 1) * kernels), place + kernels);
      this.calls.unpack(place, place + kernels, STACK, kernels);
      const floats = new Float32Array(this.memory.buffer, STACK, kernels + vectors);
      floats.set(values.subarray(i * vectors, (i + 1) * vectors), kernels);
      return members > 1 ? floats.slice() : null; // a single one stays where it is
    });
    own.fill(0, from);
  }

  // Probabilities of each output, float32 [size, size], of a canvas, uint8 [size, size]. `mirror` has
  // for each output that of which it is the mirror image; then the mean of both is returned.
  run(canvas, mirror = null) {
    const { size, outputs } = this.plan;
    const sums = Array.from({ length: outputs }, () => new Float32Array(size * size));
    const share = 1 / this.plan.members / (mirror ? 2 : 1);
    this.#run(canvas, sums, share);
    if (!mirror) return sums;
    const others = sums.map((plane) => new Float32Array(plane.length));
    this.#run(flip(canvas, size), others, share);
    return sums.map((plane, i) => {
      const other = flip(others[mirror[i]], size);
      return plane.map((value, k) => value + other[k]);
    });
  }

  #run(canvas, sums, share) {
    new Uint8Array(this.memory.buffer).set(canvas, this.plan.image);
    for (const weights of this.members) {
      if (weights) new Float32Array(this.memory.buffer, STACK, weights.length).set(weights);
      for (const step of this.plan.steps) this.#call(step);
      this.#add(sums, share);
    }
  }

  #call([name, ...given]) {
    const places = PLACES[name];
    const bytes = given.map((value, i) => (i < places ? 4 * value : value));
    if (name === "normalize") bytes.unshift(this.plan.image);
    this.calls[name](...bytes);
  }

  // The logits have a border, and as many channels as fill vectors.
  #add(sums, share) {
    const { size, logits } = this.plan;
    const pixel = Math.ceil(sums.length / LANES) * LANES;
    const row = (size + 2) * pixel;
    const values = new Float32Array(this.memory.buffer);
    sums.forEach((plane, c) => {
      for (let i = 0, at = 0; i < size; i++) {
        for (let j = 0; j < size; j++, at++) {
          const logit = values[logits + i * row + j * pixel + c];
          plane[at] += share / (1 + Math.exp(-logit));
        }
      }
    });
  }
}

function flip(plane, size) {
  const out = new plane.constructor(plane.length);
  for (let i = 0; i < size; i++) {
    out.set(plane.slice(i * size, (i + 1) * size).reverse(), i * size);
  }
  return out;
}
