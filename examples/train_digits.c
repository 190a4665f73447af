/* Trains a classifier of handwritten digits in plain C; loss and gradient come from lossd.
 *
 *     cc -std=c99 train_digits.c -o train_digits $(pkg-config --cflags --libs lossd) -lm
 *     LOSSD_ADDRESS=unix:/run/lossd/lossd.sock ./train_digits data
 *
 * 64 pixels, a hidden layer of 32, ten classes; stochastic gradient descent with momentum, in float64: step by step
 * what train_digits.py does, so that it ends with the same loss and accuracy, which are torch's. */
#include <lossd.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { IMAGES = 1797, TRAINED = 1257, PIXELS = 64, HIDDEN = 32, CLASSES = 10, BATCH = 64, EPOCHS = 20 };
static const double rate = 0.05, momentum = 0.9;

struct network {
  double inner[PIXELS][HIDDEN], inner_bias[HIDDEN], outer[HIDDEN][CLASSES], outer_bias[CLASSES];
};

static double images[IMAGES][PIXELS];
static int64_t classes[IMAGES];
static uint64_t state = 1;

/* Knuth's generator, in [0, 1). */
static double uniform(void) {
  state = state * 6364136223846793005u + 1442695040888963407u;
  return (double)(state >> 11) / 9007199254740992.0;
}

/* The elements of a .npy file in `bytes` bytes; its header is what numpy.save wrote. */
static int read_npy(const char *folder, const char *name, void *to, size_t bytes) {
  char path[4096];
  unsigned char head[10];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  FILE *file = fopen(path, "rb");
  int is_good = file != NULL && fread(head, 1, 10, file) == 10 && memcmp(head, "\x93NUMPY\x01\x00", 8) == 0 &&
                fseek(file, head[8] | head[9] << 8, SEEK_CUR) == 0 && fread(to, 1, bytes, file) == bytes;
  if (!is_good) fprintf(stderr, "%s: cannot be read\n", path);
  if (file != NULL) fclose(file);
  return is_good;
}

static int load(const char *folder) {
  static unsigned char pixels[IMAGES][PIXELS];
  if (!read_npy(folder, "digits_images.npy", pixels, sizeof pixels)) return 0;
  for (int row = 0; row < IMAGES; row++) {
    for (int at = 0; at < PIXELS; at++) images[row][at] = pixels[row][at] / 16.0;
  }
  return read_npy(folder, "digits_classes.npy", classes, sizeof classes);
}

static void begin(struct network *network) {
  memset(network, 0, sizeof *network);
  for (int at = 0; at < PIXELS * HIDDEN; at++) (&network->inner[0][0])[at] = (2 * uniform() - 1) / sqrt(PIXELS);
  for (int at = 0; at < HIDDEN * CLASSES; at++) (&network->outer[0][0])[at] = (2 * uniform() - 1) / sqrt(HIDDEN);
}

static void forward(const struct network *network, const double *image, double *hidden, double *logits) {
  for (int unit = 0; unit < HIDDEN; unit++) {
    double sum = network->inner_bias[unit];
    for (int at = 0; at < PIXELS; at++) sum += image[at] * network->inner[at][unit];
    hidden[unit] = sum > 0 ? sum : 0;
  }
  for (int class = 0; class < CLASSES; class++) {
    double sum = network->outer_bias[class];
    for (int unit = 0; unit < HIDDEN; unit++) sum += hidden[unit] * network->outer[unit][class];
    logits[class] = sum;
  }
}

/* Adds one image's part of the gradients, `upstream` being that of its logits. */
static void backward(const struct network *network, struct network *gradient, const double *image,
                     const double *hidden, const double *upstream) {
  for (int unit = 0; unit < HIDDEN; unit++) {
    double inner = 0;
    for (int class = 0; class < CLASSES; class++) {
      gradient->outer[unit][class] += hidden[unit] * upstream[class];
      inner += upstream[class] * network->outer[unit][class];
    }
    if (hidden[unit] == 0) continue;
    gradient->inner_bias[unit] += inner;
    for (int at = 0; at < PIXELS; at++) gradient->inner[at][unit] += image[at] * inner;
  }
  for (int class = 0; class < CLASSES; class++) gradient->outer_bias[class] += upstream[class];
}

static void step(struct network *network, struct network *speed, const struct network *gradient) {
  double *weights = (double *)network, *speeds = (double *)speed;
  const double *gradients = (const double *)gradient;
  for (size_t at = 0; at < sizeof *network / sizeof *weights; at++) {
    speeds[at] = momentum * speeds[at] + gradients[at];
    weights[at] -= rate * speeds[at];
  }
}

/* Says why a call failed. */
static int failed(const lossd_error *error) {
  fprintf(stderr, "%s: %s\n", lossd_code_name(error->code), error->text);
  return 0;
}

static void shuffle(int *order) {
  for (int at = 0; at < TRAINED; at++) order[at] = at;
  for (int last = TRAINED - 1; last > 0; last--) {
    int other = (int)(uniform() * (last + 1)), swapped = order[last];
    order[last] = order[other];
    order[other] = swapped;
  }
}

/* One step of the training, with the images `order[0]` to `order[rows - 1]`. */
static int train_batch(lossd_call *call, struct network *network, struct network *speed, const int *order,
                       int64_t rows) {
  static double hidden[BATCH][HIDDEN], logits[BATCH][CLASSES], upstream[BATCH][CLASSES];
  static struct network gradient;
  int64_t targets[BATCH];
  lossd_error error;
  for (int row = 0; row < rows; row++) {
    forward(network, images[order[row]], hidden[row], logits[row]);
    targets[row] = classes[order[row]];
  }
  lossd_call_input(call, "input", LOSSD_FLOAT64, 2, (int64_t[]){rows, CLASSES}, logits);
  lossd_call_input(call, "target", LOSSD_INT64, 1, (int64_t[]){rows}, targets);
  lossd_call_output(call, "loss", NULL, 0);
  lossd_call_output(call, "grad.input", upstream, sizeof upstream);
  if (lossd_call_run(call, &error) != LOSSD_OK) return failed(&error);
  memset(&gradient, 0, sizeof gradient);
  for (int row = 0; row < rows; row++) {
    backward(network, &gradient, images[order[row]], hidden[row], upstream[row]);
  }
  step(network, speed, &gradient);
  return 1;
}

static int train(lossd_client *client, struct network *network) {
  static struct network speed;
  int order[TRAINED], is_good = 1;
  lossd_call *call = lossd_call_new(client, "cross_entropy");
  begin(network);
  for (int epoch = 0; epoch < EPOCHS; epoch++) {
    shuffle(order);
    for (int first = 0; first < TRAINED && is_good; first += BATCH) {
      is_good = train_batch(call, network, &speed, order + first, TRAINED - first < BATCH ? TRAINED - first : BATCH);
    }
  }
  lossd_call_free(call);
  return is_good;
}

static int evaluate(lossd_client *client, const struct network *network) {
  static double logits[IMAGES - TRAINED][CLASSES], hidden[HIDDEN];
  const int64_t shape[2] = {IMAGES - TRAINED, CLASSES};
  int right = 0;
  double loss;
  lossd_error error;
  for (int row = 0; row < shape[0]; row++) {
    int best = 0;
    forward(network, images[TRAINED + row], hidden, logits[row]);
    for (int class = 1; class < CLASSES; class++) best = logits[row][class] > logits[row][best] ? class : best;
    right += best == classes[TRAINED + row];
  }
  lossd_call *call = lossd_call_new(client, "cross_entropy");
  lossd_call_input(call, "input", LOSSD_FLOAT64, 2, shape, logits);
  lossd_call_input(call, "target", LOSSD_INT64, 1, shape, classes + TRAINED);
  lossd_code code = lossd_call_run(call, &error);
  if (code == LOSSD_OK) code = lossd_call_result_double(call, "loss", &loss, &error);
  if (code == LOSSD_OK) printf("loss %.9f, %d of %d right\n", loss, right, IMAGES - TRAINED);
  lossd_call_free(call);
  return code == LOSSD_OK || failed(&error);
}

int main(int count, char **arguments) {
  static struct network network;
  lossd_error error;
  if (!load(count > 1 ? arguments[1] : "examples/data")) return 1;
  lossd_client *client = lossd_client_new(NULL, &error);
  if (client == NULL) return !failed(&error);
  int is_good = train(client, &network) && evaluate(client, &network);
  lossd_client_free(client);
  return !is_good;
}
