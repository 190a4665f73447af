import LossdKernelTable
import LossdPluginKit
import LossdTensor

/// A loss of an input and a target that broadcasts to it.
protocol PairLoss: ElementFunction {}

extension PairLoss {
  static var places: ElementPlaces { .loss() }
  static var targetBroadcasts: Bool { true }
}

/// |x - y|; torch.nn.functional.l1_loss.
enum L1Loss: PairLoss {
  static var declaration: FunctionDeclaration {
    .loss(
      "l1_loss", summary: "|input - target|")
  }

  static func formula(_ call: Call) -> ElementFormulaID { .absoluteError }
}

/// (x - y)^2; torch.nn.functional.mse_loss.
enum MSELoss: PairLoss {
  static var declaration: FunctionDeclaration {
    .loss(
      "mse_loss", summary: "(input - target)^2")
  }

  static func formula(_ call: Call) -> ElementFormulaID { .squaredError }
}

/// With d = x - y, d^2 / (2 beta) for |d| < beta, else |d| - beta / 2; torch.nn.functional.smooth_l1_loss.
enum SmoothL1Loss: PairLoss {
  static var declaration: FunctionDeclaration {
    .loss(
      "smooth_l1_loss", summary: "(x - y)^2 / (2 beta) below beta, else |x - y| - beta / 2",
      attributes: [
        .number(
          "beta", 1, minimum: 0, help: "where the square ends; 0: the absolute difference alone")
      ])
  }
  static var constantCount: Int { 1 }

  static func formula(_ call: Call) -> ElementFormulaID {
    constants(call.attributes).a == 0 ? .absoluteError : .smoothL1
  }
}

/// With d = x - y, d^2 / 2 up to delta, else delta (|d| - delta / 2); torch.nn.functional.huber_loss.
enum HuberLoss: PairLoss {
  static var declaration: FunctionDeclaration {
    .loss(
      "huber_loss", summary: "(x - y)^2 / 2 up to delta, else delta (|x - y| - delta / 2)",
      attributes: [.number("delta", 1, help: "where the square ends, above 0")])
  }
  static var constantCount: Int { 1 }

  static func formula(_ call: Call) -> ElementFormulaID { .huber }

  static func check(_ attributes: Attributes, _ type: DataType) throws(StatusError) {
    let delta = constants(attributes).a
    guard delta > 0 else { throw invalid("delta is \(delta), expected more than 0") }
  }
}

/// log(cosh(x - y)), the smooth absolute error of scikit-learn's and Keras' users.
enum LogCoshLoss: PairLoss {
  static var declaration: FunctionDeclaration {
    .loss(
      "log_cosh_loss", summary: "log(cosh(input - target))")
  }

  static func formula(_ call: Call) -> ElementFormulaID { .logCosh }
}

/// With d = y - x the larger of q d and (q - 1) d, the pinball loss. Koenker and Bassett (1978).
enum QuantileLoss: PairLoss {
  static var declaration: FunctionDeclaration {
    .loss(
      "quantile_loss", summary: "max(q (target - input), (q - 1) (target - input))",
      attributes: [
        .number("q", 0.5, minimum: 0, maximum: 1, help: "the quantile that the input is to be")
      ])
  }
  static var constantCount: Int { 1 }

  static func formula(_ call: Call) -> ElementFormulaID { .quantile }
}
