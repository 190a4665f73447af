extension PluginTemplate {
  var cppSource: String { kind == .elementwise ? cppElementwise : cppRowwise }

  private var cppElementwise: String {
    """
    // \(name): a loss of lossd, elementwise: Huber's, to be changed into another.
    #include <lossd/plugin.hpp>

    struct \(type) : lossd::elementwise_loss {
      static constexpr const char *name = "\(name)";
      static constexpr const char *summary = "(x - y)^2 / 2 within delta, delta (|x - y| - delta / 2) beyond";
      static constexpr lossd::attribute attributes[] = {lossd::real("delta", 1, "where it turns linear").at_least(0)};
      double delta;

      explicit \(type)(lossd::attribute_values a) : delta(a.real(0)) {}

      // The loss of an input x and a target y.
      template <class T> T loss(T x, T y) const {
        T distance = lossd::abs(x - y), d = T(delta);
        return distance < d ? distance * distance / 2 : d * (distance - d / 2);
      }

      // Its derivative by x.
      template <class T> T slope(T x, T y) const { return lossd::max(lossd::min(x - y, T(delta)), -T(delta)); }
    };

    LOSSD_PLUGIN("\(name)", "1.0", lossd::elementwise<\(type)>)

    """
  }

  private var cppRowwise: String {
    """
    // \(name): a loss of lossd, of a row of scores and a class: the multi-class hinge loss, to be changed into another.
    #include <lossd/plugin.hpp>

    struct \(type) : lossd::rowwise_loss {
      static constexpr const char *name = "\(name)";
      static constexpr const char *summary = "mean over the classes j but the target of max(0, margin - x[target] + x[j])";
      static constexpr lossd::attribute attributes[] = {
          lossd::real("margin", 1, "by how much the target's score has to lead")};
      double margin;

      explicit \(type)(lossd::attribute_values a) : margin(a.real(0)) {}

      // The loss of a row x.
      template <class T> double loss(lossd::row<T> x, std::int64_t target) const {
        const T edge = T(margin) - x[target];
        return (x.sum([=](T v) { return lossd::max(edge + v, T(0)); }) - lossd::max(margin, 0.0)) / double(x.size());
      }

      // Its derivative by each element of x.
      template <class T> void slope(lossd::row<T> x, std::int64_t target, T *slopes) const {
        const T edge = T(margin) - x[target], part = 1 / T(x.size());
        T others = 0;
        for (std::int64_t j = 0; j < x.size(); j++) {
          slopes[j] = j != target && edge + x[j] > 0 ? part : T(0);
          others += slopes[j];
        }
        slopes[target] = -others;
      }
    };

    LOSSD_PLUGIN("\(name)", "1.0", lossd::rowwise<\(type)>)

    """
  }
}
