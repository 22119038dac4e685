// The operations of the U-Net as WebAssembly with SIMD, and nothing beside them: no C library, no
// allocation. The page lays out one memory and calls an operation after the other, as the plan says
// that jaxlung/export/html/plan.py has made of the network.
//
// Build: python -m tools.build_engine (docs/browser.md). engine.wasm beside this file is its result.
//
// Tensors are float32, row by row, pixel by pixel, channels last. A tensor that a 3x3 convolution
// reads has a border of one pixel that nobody writes: its zeros are the padding. Channels of the
// results are padded to LANES; the weights of the padding are 0, and so are its values.

#define EXPORT(name) __attribute__((export_name(#name))) void name
#define LANES 8 // features that a convolution computes at once: two vectors
#define EPSILON 1e-6

typedef float vec __attribute__((vector_size(16), aligned(4)));

static inline vec splat(float value) { return (vec){value, value, value, value}; }
static inline vec load(const float *from) { return *(const vec *)from; }
static inline void store(float *to, vec value) { *(vec *)to = value; }
static inline vec larger(vec a, vec b) { return __builtin_wasm_pmax_f32x4(a, b); }

// Square root by the instruction f64.sqrt, without a library.
static inline double root(double value) { return __builtin_sqrt(value); }

// float16 of any tensor, given as its low bytes and its high bytes, to float32: exact, with
// subnormal numbers. Apart, the bytes compress better.
EXPORT(unpack)(const unsigned char *low, const unsigned char *high, float *to, int count) {
    for (int i = 0; i < count; i++) {
        unsigned half = low[i] | (unsigned)high[i] << 8;
        union { unsigned bits; float value; } number = {(half & 0x7fff) << 13};
        number.value *= 0x1p112f;
        number.bits |= (half & 0x8000) << 16;
        to[i] = number.value;
    }
}

// Shares of 255 of a plane of uint8, brought to zero mean and unit variance if asked for.
EXPORT(normalize)(
    const unsigned char *grey, float *to, int height, int width, int row_stride, int standardize) {
    int count = height * width;
    double mean = 0, factor = 1;
    if (standardize) {
        double sum = 0, squares = 0;
        for (int i = 0; i < count; i++) sum += grey[i];
        mean = sum / count / 255;
        for (int i = 0; i < count; i++) {
            double away = grey[i] / 255.0 - mean;
            squares += away * away;
        }
        factor = 1 / root(squares / count + EPSILON);
    }
    for (int row = 0; row < height; row++)
        for (int p = 0; p < width; p++)
            to[row * row_stride + p] = (float)((grey[row * width + p] / 255.0 - mean) * factor);
}

// LANES features of `pixels` neighbours, 1 to 4.
__attribute__((always_inline)) static inline void convolve_block(
    const float *x, const float *kernel, const float *bias, float *y, int pixels, int channels,
    int side, int x_pixel, int tap_row, int tap_pixel, int y_pixel) {
    vec low[4], high[4];
    for (int p = 0; p < pixels; p++) {
        low[p] = bias ? load(bias) : splat(0);
        high[p] = bias ? load(bias + 4) : splat(0);
    }
    for (int row = 0; row < side; row++) {
        for (int column = 0; column < side; column++) {
            const float *tap = x + row * tap_row + column * tap_pixel;
            for (int c = 0; c < channels; c++, kernel += LANES) {
                vec first = load(kernel), second = load(kernel + 4);
                for (int p = 0; p < pixels; p++) {
                    vec value = splat(tap[p * x_pixel + c]);
                    low[p] += value * first;
                    high[p] += value * second;
                }
            }
        }
    }
    for (int p = 0; p < pixels; p++) {
        store(y + p * y_pixel, low[p]);
        store(y + p * y_pixel + 4, high[p]);
    }
}

// A convolution with a kernel of side x side, [features / LANES][side][side][channels][LANES].
// Strides are given for results (x_row, x_pixel between the places that two results look at), for
// the kernel's taps and for what is written, so that this is also a convolution of stride 2, a
// dense layer, and a quarter of a transposed convolution.
EXPORT(convolve)(
    const float *x, const float *kernel, const float *bias, float *y, int height, int width,
    int channels, int features, int side, int x_row, int x_pixel, int tap_row, int tap_pixel,
    int y_row, int y_pixel) {
    int taps = side * side * channels * LANES;
    for (int row = 0; row < height; row++) {
        for (int f = 0; f < features; f += LANES, kernel += taps) {
            const float *start = x + row * x_row, *shift = bias ? bias + f : 0;
            float *end = y + row * y_row + f;
            int p = 0;
            for (; p + 4 <= width; p += 4)
                convolve_block(start + p * x_pixel, kernel, shift, end + p * y_pixel, 4, channels,
                               side, x_pixel, tap_row, tap_pixel, y_pixel);
            for (; p < width; p++)
                convolve_block(start + p * x_pixel, kernel, shift, end + p * y_pixel, 1, channels,
                               side, x_pixel, tap_row, tap_pixel, y_pixel);
        }
        kernel -= taps * (features / LANES);
    }
}

// Group normalisation: from the statistics of x to a factor and an offset of each channel.
EXPORT(group_statistics)(
    const float *x, const float *scale, const float *bias, float *factor, float *offset,
    int height, int width, int channels, int groups, int row_stride, int pixel_stride) {
    int each = channels / groups;
    double count = (double)height * width * each;
    double sums[2][8] = {{0}};
    for (int row = 0; row < height; row++) {
        for (int p = 0; p < width; p++) {
            const float *pixel = x + row * row_stride + p * pixel_stride;
            for (int g = 0; g < groups; g++) {
                double sum = 0, squares = 0;
                for (int c = g * each; c < (g + 1) * each; c++) {
                    double value = pixel[c];
                    sum += value;
                    squares += value * value;
                }
                sums[0][g] += sum;
                sums[1][g] += squares;
            }
        }
    }
    for (int g = 0; g < groups; g++) {
        double mean = sums[0][g] / count, variance = sums[1][g] / count - mean * mean;
        double inverse = 1 / root((variance > 0 ? variance : 0) + EPSILON);
        for (int c = g * each; c < (g + 1) * each; c++) {
            factor[c] = (float)(scale[c] * inverse);
            offset[c] = (float)(bias[c] - mean * scale[c] * inverse);
        }
    }
}

// max(x * factor + offset, 0) by channel, in place.
EXPORT(scale_and_relu)(
    float *x, const float *factor, const float *offset, int height, int width, int channels,
    int row_stride, int pixel_stride) {
    for (int row = 0; row < height; row++)
        for (int p = 0; p < width; p++) {
            float *pixel = x + row * row_stride + p * pixel_stride;
            for (int c = 0; c < channels; c += 4) {
                vec value = load(pixel + c) * load(factor + c) + load(offset + c);
                store(pixel + c, larger(value, splat(0)));
            }
        }
}

// The largest of each 2x2 block; height and width are the result's.
EXPORT(pool)(
    const float *x, float *y, int height, int width, int channels, int x_row, int x_pixel,
    int y_row, int y_pixel) {
    for (int row = 0; row < height; row++)
        for (int p = 0; p < width; p++) {
            const float *block = x + 2 * row * x_row + 2 * p * x_pixel;
            float *pixel = y + row * y_row + p * y_pixel;
            for (int c = 0; c < channels; c += 4) {
                vec a = load(block + c), b = load(block + x_pixel + c);
                vec d = load(block + x_row + c), e = load(block + x_row + x_pixel + c);
                store(pixel + c, larger(larger(a, b), larger(d, e)));
            }
        }
}
