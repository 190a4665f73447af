// Part of lossd/plugin.hpp: declared attributes and their values, errors, and the descriptors of plugin.h.
#ifndef LOSSD_DETAIL_DECLARATIONS_HPP
#define LOSSD_DETAIL_DECLARATIONS_HPP

#include <lossd/math.h>
#include <lossd/plugin.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <exception>
#include <new>
#include <type_traits>

#if defined(__cpp_exceptions) || defined(__EXCEPTIONS)
#define LOSSD_HAS_EXCEPTIONS 1
#else
#define LOSSD_HAS_EXCEPTIONS 0
#endif

// A library with a visible static that is unique in the process could never be unloaded.
#if defined(__GNUC__) || defined(__clang__)
#define LOSSD_HIDDEN __attribute__((visibility("hidden")))
// What a plugin's own types derive from or hold, which may be visible.
#define LOSSD_VISIBLE __attribute__((visibility("default")))
#else
#define LOSSD_HIDDEN
#define LOSSD_VISIBLE
#endif

namespace lossd LOSSD_HIDDEN {

// What a loss throws to say that a call cannot be evaluated: a code of plugin.h and a text that names the input,
// what it was and what was expected.
class failure : public std::exception {
 public:
  failure(std::int32_t code, const char *text) noexcept : code_(code) {
    std::snprintf(text_, sizeof text_, "%s", text);
  }
  std::int32_t code() const noexcept { return code_; }
  const char *what() const noexcept override { return text_; }

 private:
  std::int32_t code_;
  char text_[sizeof(lossd_error::text)];
};

enum class LOSSD_VISIBLE reduction { none, mean, sum };

// A declared attribute: real("alpha", 0.25, "weight of positives").at_least(0).
struct LOSSD_VISIBLE attribute {
  const char *name, *help;
  std::uint32_t type;
  double real_default = 0;
  std::int64_t integer_default = 0;
  const char *text_default = nullptr;
  const char *const *choices = nullptr; // NULL-terminated
  bool has_minimum = false, has_maximum = false;
  double minimum = 0, maximum = 0;

  constexpr attribute at_least(double bound) const {
    attribute result = *this;
    result.has_minimum = true;
    result.minimum = bound;
    return result;
  }
  constexpr attribute at_most(double bound) const {
    attribute result = *this;
    result.has_maximum = true;
    result.maximum = bound;
    return result;
  }
};

constexpr attribute real(const char *name, double value, const char *help) {
  return {name, help, LOSSD_VALUE_FLOAT, value};
}
constexpr attribute integer(const char *name, std::int64_t value, const char *help) {
  return {name, help, LOSSD_VALUE_INT, 0, value};
}
constexpr attribute flag(const char *name, bool value, const char *help) {
  return {name, help, LOSSD_VALUE_BOOL, 0, value};
}
// `choices` ends with a null pointer.
constexpr attribute choice(const char *name, const char *value, const char *const *choices, const char *help) {
  return {name, help, LOSSD_VALUE_STRING, 0, 0, value, choices};
}

// A call's attributes, by their place in the declaration; checked against it.
class LOSSD_VISIBLE attribute_values {
 public:
  explicit attribute_values(const lossd_value *values) : values_(values) {}
  double real(int index) const { return values_[index].as.floating; }
  std::int64_t integer(int index) const { return values_[index].as.integer; }
  bool flag(int index) const { return values_[index].as.integer != 0; }
  const char *text(int index) const { return values_[index].as.string; }
  bool is(int index, const char *choice) const { return std::strcmp(text(index), choice) == 0; }

 private:
  const lossd_value *values_;
};

namespace detail {

inline std::int32_t report(lossd_error *error, std::int32_t code, const char *text) noexcept {
  std::snprintf(error->text, sizeof error->text, "%s", text);
  return code;
}

// "(3, 4)" into a buffer of 128 bytes.
inline const char *shape_text(const std::int64_t *shape, std::uint32_t rank, char *buffer) noexcept {
  std::size_t at = static_cast<std::size_t>(std::snprintf(buffer, 128, "("));
  for (std::uint32_t i = 0; i < rank && at < 100; i++)
    at += static_cast<std::size_t>(
        std::snprintf(buffer + at, 128 - at, i ? ", %lld" : "%lld", static_cast<long long>(shape[i])));
  std::snprintf(buffer + at, 128 - at, rank == 1 ? ",)" : ")");
  return buffer;
}

inline lossd_value value_of(std::uint32_t type, double real, std::int64_t integer, const char *text) {
  lossd_value value;
  std::memset(&value, 0, sizeof value);
  value.kind = type;
  if (type == LOSSD_VALUE_FLOAT) value.as.floating = real;
  else if (type == LOSSD_VALUE_STRING) {
    value.as.string = text;
    value.length = static_cast<std::uint32_t>(std::strlen(text));
  } else value.as.integer = integer;
  return value;
}

inline lossd_attribute declared(const attribute &a) {
  lossd_attribute result;
  std::memset(&result, 0, sizeof result);
  result.name = a.name;
  result.help = a.help;
  result.type = a.type;
  result.choices = a.choices;
  result.default_value = value_of(a.type, a.real_default, a.integer_default, a.text_default);
  if (a.has_minimum) result.minimum = value_of(a.type, a.minimum, static_cast<std::int64_t>(a.minimum), "");
  if (a.has_maximum) result.maximum = value_of(a.type, a.maximum, static_cast<std::int64_t>(a.maximum), "");
  return result;
}

static const char *const reductions[] = {"none", "mean", "sum", nullptr};
static const char *const loss_sums[] = {"loss_sum", "weight_sum"};
static const char *const loss_values[] = {"loss"};

inline reduction reduction_of(const lossd_value &value) {
  return value.as.string[0] == 'm' ? reduction::mean : value.as.string[0] == 's' ? reduction::sum : reduction::none;
}

// The sums of every loss here: of the losses, and of what a mean divides by.
inline std::int32_t finish_loss(const lossd_value &value, const double *sums, double *values,
                                std::uint64_t *present) {
  reduction how = reduction_of(value);
  if (how == reduction::none) return LOSSD_OK;
  values[0] = how == reduction::mean ? sums[0] / sums[1] : sums[0];
  *present = 1;
  return LOSSD_OK;
}

template <class... Functions>
const lossd_plugin *make_plugin(const lossd_host *host, const char *name, const char *version) noexcept {
  static const lossd_function *functions[] = {Functions::function()...};
  static lossd_plugin plugin;
  if (const char *missing = lossd_missing_instructions()) {
    char text[128];
    std::snprintf(text, sizeof text, "plugin %s is built for %s, which this processor lacks", name, missing);
    host->log(host, LOSSD_LOG_ERROR, text);
    return nullptr;
  }
  plugin.struct_size = sizeof plugin;
  plugin.abi_major = LOSSD_ABI_MAJOR;
  plugin.abi_minor = LOSSD_ABI_MINOR;
  plugin.name = name;
  plugin.version = version;
  plugin.functions = functions;
  plugin.function_count = sizeof...(Functions);
  return &plugin;
}

} // namespace detail

// Runs a callback's body, which returns a code; exceptions become codes and texts.
template <class Body> std::int32_t guarded(lossd_error *error, Body body) noexcept {
#if LOSSD_HAS_EXCEPTIONS
  try {
    return body();
  } catch (const failure &problem) {
    return detail::report(error, problem.code() == LOSSD_OK ? LOSSD_INTERNAL : problem.code(), problem.what());
  } catch (const std::bad_alloc &) {
    return detail::report(error, LOSSD_RESOURCE_EXHAUSTED, "no memory is left");
  } catch (const std::exception &problem) {
    return detail::report(error, LOSSD_INTERNAL, problem.what());
  } catch (...) {
    return detail::report(error, LOSSD_INTERNAL, "an exception that is no std::exception");
  }
#else
  (void)error;
  return body();
#endif
}

} // namespace lossd

#endif
