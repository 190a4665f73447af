import Glibc
import LossdKernelTable
import LossdKernels
import LossdPluginKit
import LossdTensor

/// The cross entropy of `scale` times cosines, with a margin between the target's and the others: what a formula
/// makes of the target's cosine. Both are as pytorch-metric-learning has them, of cosines in place of embeddings.
protocol MarginSoftmax: BlockLoss {
  var scale: Double { get }
  /// What stands for the target's cosine, and its derivative.
  func margined(_ cosine: Double) -> (value: Double, slope: Double)
}

/// Where the attributes stand.
private enum MarginPlaces { static let (margin, scale) = (1, 2) }

extension MarginSoftmax {
  static var inputHelp: String { "cosines, (C) or (N, C)" }
  static var elementCost: Double { 4 }

  static func attributes(margin: Double, maximum: Double?, help: String) -> [AttributeDeclaration] {
    [
      .number("margin", margin, minimum: 0, maximum: maximum, help: help),
      .number(
        "scale", 64, minimum: 0, maximum: .greatestFiniteMagnitude,
        help: "what the cosines are multiplied by"),
    ]
  }

  func evaluate(_ row: RowWork) throws(StatusError) -> Double {
    let label = try row.label()
    let target = margined(row.element(label))
    func load(_ first: Int, _ count: Int) {
      row.load(first, count)
      for index in 0..<count { row.x[index] *= scale }
      if label >= first && label < first + count { row.x[label - first] = scale * target.value }
    }
    var state = RowState(max: -.infinity, rest: 0)
    try row.eachBlock { first, count throws(StatusError) in
      load(first, count)
      let part = Double.state(row.x, count)
      if row.isOneBlock { state = part } else { state.add(part) }
    }
    // Of nothing but -infinity, too, softmax is NaN.
    if !state.max.isFinite { state.rest = .nan }
    let loss = -state.logProbability(scale * target.value)
    guard row.gradient != nil else { return loss }
    let factor = row.scale * scale
    try row.eachBlock { first, count throws(StatusError) in
      if !row.isOneBlock { load(first, count) }
      Double.probabilities(row.x, row.y, count, part: state, row: state, times: factor)
      if label >= first && label < first + count {
        row.y[label - first] = factor * target.slope * expm1(-loss)
      }
      row.store(first, count)
    }
    return loss
  }
}

extension MarginSoftmax {
  func evaluate(
    _ kernels: KernelTable, _ work: RowWork, _ block: RowsBlock, _ count: Int
  ) throws(StatusError) {
    let (classes, elements) = (work.classes, count * work.classes)
    Double._load(work.input, work.start, block.x, elements)
    for index in 0..<count {
      let label = work.target.integer(work.row + index)
      try checkLabel(label, work.row + index, work.target, classes)
      let own = margined(block.x[index * classes + Int(label)])
      block.labels[index] = Int32(label)
      block.numbers[index] = own.slope
      block.x[index * classes + Int(label)] = own.value
    }
    for index in 0..<elements { block.x[index] *= scale }
    for index in 0..<count { block.factors[index] *= scale }
    block.crossEntropy(kernels, count, classes, hasGradient: work.gradient != nil)
    if let gradient = work.gradient {
      for index in 0..<count {
        block.x[index * classes + Int(block.labels[index])] =
          block.factors[index] * block.numbers[index] * expm1(-block.losses[index])
      }
      Double._store(block.x, gradient, work.start, elements)
    }
  }
}

/// Of an angle `margin` wider. Deng and others (2019), "ArcFace: Additive Angular Margin Loss for Deep Face
/// Recognition"; pytorch-metric-learning's ArcFaceLoss, whose margin of 28.6 degrees is 0.5. cos(theta + m) is
/// c cos(m) - sqrt(1 - c^2) sin(m), up to theta = pi - m; beyond, where that would rise again, it is c - m sin(m), as
/// there. A cosine is taken for one within [-1, 1], and its slope for one within 1e-7 of them: there is no NaN at 1.
struct ArcFaceLoss: MarginSoftmax {
  static let name = "arcface_loss"
  static let summary = "cross entropy of scale cos(theta), the target's theta wider by margin"
  static var attributes: [AttributeDeclaration] {
    attributes(
      margin: 0.5, maximum: .pi, help: "what is added to the angle of the target, radians")
  }
  /// sqrt(1 - c^2) at c = 1 - 1e-7.
  private static let smallestSine = 4.4721358e-4

  let scale: Double
  /// Of the margin.
  private let cosine: Double
  private let sine: Double
  /// What the target's cosine is less by where its angle and the margin are more than pi.
  private let drop: Double

  init(_ attributes: Attributes) {
    let margin = attributes.float(MarginPlaces.margin)
    (cosine, sine, drop) = (cos(margin), sin(margin), margin * sin(margin))
    scale = attributes.float(MarginPlaces.scale)
  }

  func margined(_ given: Double) -> (value: Double, slope: Double) {
    let c = given > 1 ? 1 : given < -1 ? -1 : given
    if c < -cosine { return (c - drop, 1) }
    let height = ((1 - c) * (1 + c)).squareRoot()
    return (
      c * cosine - height * sine, cosine + sine * c / max(height, ArcFaceLoss.smallestSine)
    )
  }
}

/// Of a cosine less by `margin`. Wang and others (2018), "CosFace: Large Margin Cosine Loss for Deep Face Recognition";
/// pytorch-metric-learning's CosFaceLoss.
struct CosFaceLoss: MarginSoftmax {
  static let name = "cosface_loss"
  static let summary = "cross entropy of scale input, the target's less by margin"
  static var attributes: [AttributeDeclaration] {
    attributes(margin: 0.35, maximum: nil, help: "what the target's cosine is less by")
  }

  let scale: Double
  private let margin: Double

  init(_ attributes: Attributes) {
    margin = attributes.float(MarginPlaces.margin)
    scale = attributes.float(MarginPlaces.scale)
  }

  func margined(_ cosine: Double) -> (value: Double, slope: Double) { (cosine - margin, 1) }
}
