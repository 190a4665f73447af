import CLossdPlugin
import LossdTensor

/// torch's `reduction`.
public enum LossReduction: String, Sendable, BitwiseCopyable {
  case none, mean, sum
  /// The sum over the input's first size. Of the functions alone whose `attribute` has it.
  case batchMean = "batchmean"

  /// The attribute by which clients choose.
  package static func attribute(
    _ usual: LossReduction = .mean, hasBatchMean: Bool = false
  ) -> AttributeDeclaration {
    AttributeDeclaration(
      "reduction", .string, default: .string(usual.rawValue),
      choices: ["none", "mean", "sum"] + (hasBatchMean ? ["batchmean"] : []), role: .reduction,
      help: "none: a loss an element or row; mean; sum"
        + (hasBatchMean ? "; batchmean: the sum over input's first size" : ""))
  }

  package static let accumulators = [
    AccumulatorDeclaration("loss_sum", .sum), AccumulatorDeclaration("weight_sum", .sum),
  ]
  package static let values = ["loss"]

  /// Of a call whose attribute of this place it is.
  @usableFromInline package init(_ attributes: Attributes, _ index: Int = 0) {
    self =
      attributes.string(index, equals: "mean")
      ? .mean
      : attributes.string(index, equals: "sum")
        ? .sum : attributes.string(index, equals: "none") ? .none : .batchMean
  }

  /// The loss from the sum of the losses and what a mean divides by.
  package func value(_ sums: UnsafePointer<Double>) -> Double? {
    switch self {
    case .none: nil
    case .mean, .batchMean: sums[0] / sums[1]
    case .sum: sums[0]
    }
  }

  /// What every gradient is multiplied by: the upstream gradient of a reduced loss, over `divisor`
  /// for a mean.
  @usableFromInline func gradientScale(_ upstream: TensorView?, _ divisor: Double) -> Double {
    var scale = 1.0
    if self != .none, let upstream { Double._load(upstream, 0, &scale, 1) }
    return self == .mean || self == .batchMean ? scale / divisor : scale
  }
}
