extension PluginTemplate {
  var cSource: String {
    """
    /* \(name): a loss of lossd, \(kind == .elementwise ? "elementwise: Huber's" : "of a row of scores and a class: the multi-class hinge loss"), to be changed into another. */
    #include <lossd/math.h>
    #include <lossd/plugin.h>
    #include <stdio.h>
    #include <string.h>

    enum { INPUT, TARGET, UPSTREAM };
    enum { LOSS, GRADIENT };
    enum { \(parameter.uppercased()), REDUCTION };
    enum { LOSS_SUM, WEIGHT_SUM };

    \(kind == .elementwise ? cElementwise : cRowwise)
    /* From the sums to the loss. */
    static int32_t finish(const lossd_function *function, const lossd_value *attributes, const double *sums,
                          double *values, uint64_t *present, lossd_error *error) {
      (void)function, (void)error;
      values[0] = is(attributes, "sum") ? sums[LOSS_SUM] : sums[LOSS_SUM] / sums[WEIGHT_SUM];
      *present = !is(attributes, "none");
      return LOSSD_OK;
    }

    #define FLOATS (LOSSD_TYPE_BIT(LOSSD_FLOAT32) | LOSSD_TYPE_BIT(LOSSD_FLOAT64))
    #define NONE {LOSSD_VALUE_NONE, 0, {0}}
    /* A data set may be cut along dimension 0, its rows: each row has its own part of the sums and of the gradient. */
    static const lossd_input inputs[] = {
        {"input", "\(kind == .elementwise ? "predictions, any shape" : "scores, (N, C)")", FLOATS, LOSSD_INPUT_REQUIRED | LOSSD_INPUT_ROWS\(kind == .elementwise ? "" : " | LOSSD_INPUT_CLASSES"), {0, 0}},
        {"target", "\(kind == .elementwise ? "like input" : "the class of each row, (N)")", \(kind == .elementwise ? "FLOATS" : "LOSSD_TYPE_BIT(LOSSD_INT64)"), LOSSD_INPUT_REQUIRED | LOSSD_INPUT_ROWS, {0, 0}},
        {"grad.loss", "upstream gradient, like loss; a scalar may be float64", FLOATS, LOSSD_INPUT_UPSTREAM, {0, 0}}};
    static const lossd_output outputs[] = {
        {"loss", "scalar, or one \(kind == .elementwise ? "an element" : "a row") for reduction=none", LOSSD_OUTPUT_DEFAULT | LOSSD_OUTPUT_ROWS, -1, {0, 0}},
        {"grad.input", "gradient with respect to input", LOSSD_OUTPUT_ROWS, -1, {0, 0}}};
    static const char *const reductions[] = {"none", "mean", "sum", 0};
    static const lossd_attribute attributes[] = {
        {"\(parameter)", "\(parameterHelp)", LOSSD_VALUE_FLOAT, 0, {LOSSD_VALUE_FLOAT, 0, {.floating = 1}},
         \(kind == .elementwise ? "{LOSSD_VALUE_FLOAT, 0, {.floating = 0}}" : "NONE"), NONE, 0, {0, 0}},
        {"reduction", "none, mean or sum", LOSSD_VALUE_STRING, LOSSD_ATTRIBUTE_REDUCTION,
         {LOSSD_VALUE_STRING, 4, {.string = "mean"}}, NONE, NONE, reductions, {0, 0}}};
    static const char *const sums[] = {"loss_sum", "weight_sum"}, *const values[] = {"loss"};
    static const lossd_function function = {
        .struct_size = sizeof function, .kind = LOSSD_KIND_LOSS, .name = "\(name)",
        .summary = "\(cSummary)", .inputs = inputs, .input_count = 3,
        .outputs = outputs, .output_count = 2, .attributes = attributes, .attribute_count = 2,
        .accumulators = sums, .accumulator_count = 2, .values = values, .value_count = 1,
        .plan = plan, .run = run, .finish = finish};
    static const lossd_function *const functions[] = {&function};
    static const lossd_plugin plugin = {
        .struct_size = sizeof plugin, .abi_major = LOSSD_ABI_MAJOR, .abi_minor = LOSSD_ABI_MINOR,
        .name = "\(name)", .version = "1.0", .functions = functions, .function_count = 1};

    const lossd_plugin *lossd_plugin_entry(const lossd_host *host) {
      const char *missing = lossd_missing_instructions();
      if (missing) host->log(host, LOSSD_LOG_ERROR, "\(name): this processor lacks what it is built for");
      return missing ? 0 : &plugin;
    }

    """
  }

  private var parameter: String { kind == .elementwise ? "delta" : "margin" }

  private var parameterHelp: String {
    kind == .elementwise ? "where it turns linear" : "by how much the target's score has to lead"
  }

  private var cSummary: String {
    kind == .elementwise
      ? "(x - y)^2 / 2 within delta, delta (|x - y| - delta / 2) beyond"
      : "mean over the classes j but the target of max(0, margin - x[target] + x[j])"
  }

  /// The formula, `plan` and `run` of a loss of two elements.
  private var cElementwise: String {
    """
    /* The loss of an input x and a target y. */
    static double loss(double x, double y, double delta) {
      double distance = lossd_abs(x - y);
      return distance < delta ? distance * distance / 2 : delta * (distance - delta / 2);
    }

    /* Its derivative by x. */
    static double slope(double x, double y, double delta) {
      return lossd_max(lossd_min(x - y, delta), -delta);
    }

    \(cHelpers)
    /* Looks at shapes, types and attributes, and says what comes out and how much work it is. */
    static int32_t plan(const lossd_call *call, lossd_plan *plan, lossd_error *error) {
      const lossd_tensor *x = &call->inputs[INPUT], *y = &call->inputs[TARGET], *up = &call->inputs[UPSTREAM];
      int is_none = is(call->attributes, "none");
      if (y->data_type != x->data_type || !same_shape(y, x, x->rank))
        return fail(error, "target has another type or shape than input");
      if (up->data_type && (!is_upstream_type(up, x, is_none) || !same_shape(up, x, is_none ? x->rank : 0)))
        return fail(error, "grad.loss has another type or shape than loss");
      set_output(plan, LOSS, x, is_none ? x->rank : 0);
      if (!is_none) plan->outputs[LOSS].flags = LOSSD_PLANNED_REDUCED; /* filled by the host from finish's value */
      set_output(plan, GRADIENT, x, x->rank);
      plan->rows = x->rank ? x->shape[0] : 1;
      plan->pass_count = 1;
      plan->passes[0].units = x->element_count;
      plan->passes[0].unit_cost_ns = 2;
      return LOSSD_OK;
    }

    /* Elements begin ..< end, of T. */
    #define LOOP(T)                                                                                      \\
      {                                                                                                  \\
        const T *x = call->inputs[INPUT].data, *y = call->inputs[TARGET].data;                           \\
        const T *up = is_none && call->inputs[UPSTREAM].data_type ? call->inputs[UPSTREAM].data : 0;     \\
        T *losses = is_none && call->wanted >> LOSS & 1 ? call->outputs[LOSS].data : 0;                  \\
        T *gradient = call->wanted >> GRADIENT & 1 ? call->outputs[GRADIENT].data : 0;                   \\
        for (int64_t i = chunk->begin; i < chunk->end; i++) {                                            \\
          double value = loss(x[i], y[i], delta);                                                        \\
          sum += value;                                                                                  \\
          if (losses) losses[i] = (T)value;                                                              \\
          if (gradient) gradient[i] = (T)(slope(x[i], y[i], delta) * scale * (up ? up[i] : 1)); \\
        }                                                                                                \\
      }

    static int32_t run(const lossd_call *call, const lossd_chunk *chunk, lossd_error *error) {
      const double delta = call->attributes[DELTA].as.floating;
      const int is_none = is(call->attributes, "none");
      const double scale = upstream_scalar(call) * (is(call->attributes, "mean") ? 1.0 / (double)call->inputs[INPUT].element_count : 1);
      double sum = 0;
      (void)error;
      if (call->inputs[INPUT].data_type == LOSSD_FLOAT64) LOOP(double) else LOOP(float)
      chunk->accumulator[LOSS_SUM] += sum;
      chunk->accumulator[WEIGHT_SUM] += (double)(chunk->end - chunk->begin);
      return LOSSD_OK;
    }

    """
  }

  /// The same of a loss of a row.
  private var cRowwise: String {
    """
    /* The loss of a row of `count` scores, and its derivative by each of them. */
    #define ROW(T, name)                                                                                  \\
      static double name(const T *x, int64_t count, int64_t target, double margin, T *slopes) {           \\
        double total = 0, others = 0, part = 1.0 / (double)count, edge = margin - x[target];              \\
        for (int64_t j = 0; j < count; j++) {                                                             \\
          int counts = j != target && edge + x[j] > 0;                                                    \\
          total += counts ? edge + x[j] : 0;                                                              \\
          others += counts ? part : 0;                                                                    \\
          if (slopes) slopes[j] = (T)(counts ? part : 0);                                                 \\
        }                                                                                                 \\
        if (slopes) slopes[target] = (T)-others;                                                          \\
        return total * part;                                                                              \\
      }
    ROW(float, row_of_floats)
    ROW(double, row_of_doubles)

    \(cHelpers)
    /* Looks at shapes, types and attributes, and says what comes out and how much work it is. */
    static int32_t plan(const lossd_call *call, lossd_plan *plan, lossd_error *error) {
      const lossd_tensor *x = &call->inputs[INPUT], *y = &call->inputs[TARGET], *up = &call->inputs[UPSTREAM];
      int is_none = is(call->attributes, "none");
      if (x->rank != 2) return fail(error, "input has not two dimensions, (N, C)");
      if (!same_shape(y, x, 1)) return fail(error, "target has not one class for each row, (N)");
      if (up->data_type && (!is_upstream_type(up, x, is_none) || !same_shape(up, x, is_none ? 1 : 0)))
        return fail(error, "grad.loss has another type or shape than loss");
      set_output(plan, LOSS, x, is_none ? 1 : 0);
      if (!is_none) plan->outputs[LOSS].flags = LOSSD_PLANNED_REDUCED; /* filled by the host from finish's value */
      set_output(plan, GRADIENT, x, 2);
      plan->rows = plan->passes[0].units = x->shape[0];
      plan->pass_count = 1;
      plan->passes[0].unit_cost_ns = 20 + 2 * (double)x->shape[1];
      return LOSSD_OK;
    }

    /* Rows begin ..< end, of T. */
    #define LOOP(T, row)                                                                                  \\
      {                                                                                                   \\
        const T *x = call->inputs[INPUT].data;                                                            \\
        const T *up = is_none && call->inputs[UPSTREAM].data_type ? call->inputs[UPSTREAM].data : 0;      \\
        T *losses = is_none && call->wanted >> LOSS & 1 ? call->outputs[LOSS].data : 0;                   \\
        T *gradient = call->wanted >> GRADIENT & 1 ? call->outputs[GRADIENT].data : 0;                    \\
        for (int64_t i = chunk->begin; i < chunk->end; i++) {                                             \\
          double value, factor = scale * (up ? up[i] : 1);                                                \\
          T *slopes = gradient ? gradient + i * classes : 0;                                              \\
          int64_t target = targets[i];                                                                    \\
          if (target < 0 || target >= classes) {                                                          \\
            snprintf(error->text, sizeof error->text, "target[%lld] is %lld, outside [0, %lld)",          \\
                     (long long)i, (long long)target, (long long)classes);                                \\
            return LOSSD_INVALID_ARGUMENT;                                                                \\
          }                                                                                               \\
          value = row(x + i * classes, classes, target, margin, slopes);                                  \\
          sum += value;                                                                                   \\
          if (losses) losses[i] = (T)value;                                                               \\
          for (int64_t j = 0; slopes && j < classes; j++) slopes[j] = (T)(slopes[j] * factor);            \\
        }                                                                                                 \\
      }

    static int32_t run(const lossd_call *call, const lossd_chunk *chunk, lossd_error *error) {
      const double margin = call->attributes[MARGIN].as.floating;
      const int is_none = is(call->attributes, "none");
      const int64_t *targets = call->inputs[TARGET].data, classes = call->inputs[INPUT].shape[1];
      const double scale = upstream_scalar(call) * (is(call->attributes, "mean") ? 1.0 / (double)call->inputs[INPUT].shape[0] : 1);
      double sum = 0;
      if (call->inputs[INPUT].data_type == LOSSD_FLOAT64) LOOP(double, row_of_doubles)
      else LOOP(float, row_of_floats)
      chunk->accumulator[LOSS_SUM] += sum;
      chunk->accumulator[WEIGHT_SUM] += (double)(chunk->end - chunk->begin);
      return LOSSD_OK;
    }

    """
  }

  private var cHelpers: String {
    """
    static int is(const lossd_value *attributes, const char *reduction) {
      return !strcmp(attributes[REDUCTION].as.string, reduction);
    }

    static int32_t fail(lossd_error *error, const char *text) {
      snprintf(error->text, sizeof error->text, "%s", text);
      return LOSSD_INVALID_ARGUMENT;
    }

    /* Whether a's shape is the first `rank` dimensions of b's. */
    static int same_shape(const lossd_tensor *a, const lossd_tensor *b, uint32_t rank) {
      return a->rank == rank && (rank == 0 || !memcmp(a->shape, b->shape, rank * sizeof *a->shape));
    }

    /* loss's type, or float64 where loss is a scalar, so that a mean of many rows loses nothing. */
    static int is_upstream_type(const lossd_tensor *up, const lossd_tensor *loss, int is_none) {
      return up->data_type == loss->data_type || (!is_none && up->data_type == LOSSD_FLOAT64);
    }

    /* The upstream gradient of a mean or sum; 1 where there is none, or one for each loss. */
    static double upstream_scalar(const lossd_call *call) {
      const lossd_tensor *up = &call->inputs[UPSTREAM];
      if (!up->data_type || is(call->attributes, "none")) return 1;
      return up->data_type == LOSSD_FLOAT64 ? *(const double *)up->data : (double)*(const float *)up->data;
    }

    static void set_output(lossd_plan *plan, int output, const lossd_tensor *like, uint32_t rank) {
      plan->outputs[output].data_type = like->data_type;
      plan->outputs[output].rank = rank;
      if (rank) memcpy(plan->outputs[output].shape, like->shape, rank * sizeof *like->shape);
    }

    """
  }
}
