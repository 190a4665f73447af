import LossdKernelTable
import LossdPluginKit
import LossdTensor

/// The error function; torch.erf.
enum Erf: Activation {
  static var declaration: FunctionDeclaration {
    .activation(
      "erf", summary: "the error function, elementwise", inputTypes: DataType.allCases)
  }

  static func formula(_ call: Call) -> ElementFormulaID { .erf }
}

/// 1 - erf(x), without cancellation; torch.erfc.
enum Erfc: Activation {
  static var declaration: FunctionDeclaration {
    .activation(
      "erfc", summary: "1 - erf(input), elementwise", inputTypes: DataType.allCases)
  }

  static func formula(_ call: Call) -> ElementFormulaID { .erfc }
}

/// P(X <= x) of a standard normal X; torch.special.ndtr.
enum Ndtr: Activation {
  static var declaration: FunctionDeclaration {
    .activation(
      "ndtr", summary: "the standard normal distribution function, elementwise",
      inputTypes: DataType.allCases)
  }

  static func formula(_ call: Call) -> ElementFormulaID { .normalDistribution }
}

/// log(1 + x); torch.log1p.
enum Log1p: Activation {
  static var declaration: FunctionDeclaration {
    .activation(
      "log1p", summary: "log(1 + input), elementwise", inputTypes: DataType.allCases)
  }

  static func formula(_ call: Call) -> ElementFormulaID { .log1p }
}

/// exp(x) - 1; torch.expm1.
enum Expm1: Activation {
  static var declaration: FunctionDeclaration {
    .activation(
      "expm1", summary: "exp(input) - 1, elementwise", inputTypes: DataType.allCases)
  }

  static func formula(_ call: Call) -> ElementFormulaID { .expm1 }
}

/// 2^x; torch.exp2.
enum Exp2: Activation {
  static var declaration: FunctionDeclaration {
    .activation(
      "exp2", summary: "2^input, elementwise", inputTypes: DataType.allCases)
  }

  static func formula(_ call: Call) -> ElementFormulaID { .exp2 }
}

/// log(x / (1 - x)); torch.logit.
enum Logit: Activation {
  static var declaration: FunctionDeclaration {
    .activation(
      "logit", summary: "log(input / (1 - input)), elementwise", inputTypes: DataType.allCases,
      attributes: [
        AttributeDeclaration(
          "eps", .float, default: nil,
          help: "clamps the input to [eps, 1 - eps]; none: it is not clamped")
      ])
  }

  static func formula(_ call: Call) -> ElementFormulaID { .logit }

  private static let eps = 0

  static func constants(_ attributes: Attributes) -> ElementConstants {
    ElementConstants(attributes.isPresent(eps) ? attributes.float(eps) : -1)
  }
}

/// -x log(x), 0 at 0 and -infinity below; torch.special.entr.
enum Entr: Activation {
  static var declaration: FunctionDeclaration {
    .activation(
      "entr", summary: "-input log(input), elementwise", inputTypes: DataType.allCases)
  }

  static func formula(_ call: Call) -> ElementFormulaID { .entropy }
}

/// log P(X <= x) of a standard normal X; torch.special.log_ndtr.
enum LogNdtr: Activation {
  static var declaration: FunctionDeclaration {
    .activation(
      "log_ndtr",
      summary: "the logarithm of the standard normal distribution function, elementwise",
      inputTypes: DataType.allCases)
  }

  static func formula(_ call: Call) -> ElementFormulaID { .logNormalDistribution }
}

/// sin(pi x) / (pi x), 1 at 0; torch.sinc.
enum Sinc: Activation {
  static var declaration: FunctionDeclaration {
    .activation(
      "sinc", summary: "sin(pi input) / (pi input), 1 at 0, elementwise",
      inputTypes: DataType.allCases)
  }

  static func formula(_ call: Call) -> ElementFormulaID { .sinc }
}
