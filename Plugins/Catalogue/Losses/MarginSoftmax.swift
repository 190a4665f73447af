import Glibc
import LossdKernelTable
import LossdKernels
import LossdPluginKit
import LossdTensor

/// The cross entropy of `scale` times cosines, with a margin between the target's and the others: what a formula
/// makes of the target's cosine. Both are as pytorch-metric-learning has them, of cosines in place of embeddings.
protocol MarginSoftmax: RowLoss {
  var scale: Double { get }
  /// What stands for the target's cosine, and its derivative.
  func margined(_ cosine: Double) -> (value: Double, slope: Double)
}

extension MarginSoftmax {
  static var inputHelp: String { "cosines, (C) or (N, C)" }
  static var elementCost: Double { 4 }
  static func scratchBytes(classes: Int) -> Int { MarginBlock.bytes(classes) }

  static func attributes(margin: Double, maximum: Double?, help: String) -> [AttributeDeclaration] {
    [
      .number("margin", margin, minimum: 0, maximum: maximum, help: help),
      .number("scale", 64, minimum: 0, help: "what the cosines are multiplied by"),
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

/// Rows of few classes that the kernels of cross_entropy compute together, in float64: where their cosines are, and what is
/// known of each.
private struct MarginBlock {
  /// Elements of the rows, and rows.
  private static let elements = 2048
  private static let rowsMax = 128
  /// From here on, and of what is no number, the kernels need not be right.
  static let extreme = 1e299

  let rows: Int
  let x: UnsafeMutablePointer<Double>
  let losses: UnsafeMutablePointer<Double>
  /// What each row's gradient is multiplied by.
  let factors: UnsafeMutablePointer<Double>
  /// The derivatives of what stands for the targets' cosines.
  let slopes: UnsafeMutablePointer<Double>
  let labels: UnsafeMutablePointer<Int32>
  let kernelScratch: UnsafeMutableRawPointer

  /// Rows at once; 0 of so many classes that a row is worth a call of the kernels by itself.
  static func rows(_ classes: Int) -> Int {
    classes > elements / 8 ? 0 : min(elements / max(classes, 1), rowsMax)
  }

  static func bytes(_ classes: Int) -> Int {
    if rows(classes) == 0 { return 0 }
    return elements * 8 + rowsMax * (3 * 8 + 4)
      + StridedRows.scratchBytes(size: classes, isContiguous: true, isDouble: true)
  }

  init(_ scratch: UnsafeMutableRawPointer, _ classes: Int) {
    rows = MarginBlock.rows(classes)
    x = scratch.assumingMemoryBound(to: Double.self)
    losses = x + MarginBlock.elements
    factors = losses + MarginBlock.rowsMax
    slopes = factors + MarginBlock.rowsMax
    let ends = UnsafeMutableRawPointer(slopes + MarginBlock.rowsMax)
    labels = ends.assumingMemoryBound(to: Int32.self)
    kernelScratch = UnsafeMutableRawPointer(labels + MarginBlock.rowsMax)
  }
}

extension MarginSoftmax {
  static func run(_ call: Call, _ state: RowsState, _ chunk: Chunk) throws(StatusError) {
    guard MarginBlock.rows(state.classes) > 1, let kernels = Kernels.chosen?.float64,
      let input = call.input(ClassPlaces.input), let target = call.input(ClassPlaces.target)
    else { return try runRows(call, state, chunk) }
    let formula = try Self(call.attributes)
    let reduction = Reduction(call.attributes)
    let gradient = call.output(ClassPlaces.gradient)
    let perRow = reduction == .none ? call.output(ClassPlaces.loss) : nil
    let block = MarginBlock(
      chunk.scratch + RowWork.blockBytes(state.classes), state.classes)
    var losses = CompensatedSum()
    for first in stride(from: chunk.range.lowerBound, to: chunk.range.upperBound, by: block.rows) {
      let count = min(block.rows, chunk.range.upperBound - first)
      for index in 0..<count {
        block.factors[index] =
          gradient == nil
          ? 0
          : reduction.scale(
            call.input(ClassPlaces.upstream), first + index, weightSum: Double(state.rows))
      }
      let work = RowWork(
        call: call, input: input, target: target, weight: nil, gradient: gradient, row: first,
        classes: state.classes, start: first * state.classes, scale: 1, scratch: chunk.scratch)
      try formula.evaluate(kernels, work, block, count)
      losses.add(block.losses, count)
      guard let perRow else { continue }
      for index in 0..<count { perRow[first + index] = block.losses[index] }
    }
    chunk.sums[0] += losses.value
    chunk.sums[1] += Double(chunk.range.count)
  }

  /// Writes the gradients of `count` rows from `work`'s on, whose factors are in the block, and leaves their losses there.
  private func evaluate(
    _ kernels: KernelTable, _ work: RowWork, _ block: MarginBlock, _ count: Int
  ) throws(StatusError) {
    let (classes, elements) = (work.classes, count * work.classes)
    Double._load(work.input, work.start, block.x, elements)
    for index in 0..<count {
      let label = work.target.integer(work.row + index)
      try checkLabel(label, work.row + index, work.target, classes)
      let own = margined(block.x[index * classes + Int(label)])
      block.labels[index] = Int32(label)
      block.slopes[index] = own.slope
      block.x[index * classes + Int(label)] = own.value
    }
    for index in 0..<elements { block.x[index] *= scale }
    for index in 0..<count { block.factors[index] *= scale }
    var rows = CrossEntropyRows(
      x: block.x, gradient: work.gradient == nil ? nil : UnsafeMutableRawPointer(block.x),
      rows: StridedRows(count: count, size: classes, step: classes, stride: 1),
      labels: block.labels, rowWeights: nil, scales: UnsafePointer(block.factors), scale: 1,
      losses: block.losses, classWeights: nil, classWeightSum: Double(classes), smoothing: 0,
      scratch: block.kernelScratch, isStreamed: false)
    kernels.crossEntropy(&rows)
    if let gradient = work.gradient {
      for index in 0..<count {
        block.x[index * classes + Int(block.labels[index])] =
          block.factors[index] * block.slopes[index] * expm1(-block.losses[index])
      }
      Double._store(block.x, gradient, work.start, elements)
    }
    for index in 0..<count {
      let (loss, factor) = (block.losses[index].magnitude, block.factors[index].magnitude)
      if loss < MarginBlock.extreme && factor < MarginBlock.extreme { continue }
      let row = RowWork(
        call: work.call, input: work.input, target: work.target, weight: nil,
        gradient: work.gradient, row: work.row + index, classes: classes,
        start: work.start + index * classes, scale: block.factors[index] / scale,
        scratch: UnsafeMutableRawPointer(work.x))
      block.losses[index] = try evaluate(row)
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
    let margin = attributes.float(1)
    (cosine, sine, drop) = (cos(margin), sin(margin), margin * sin(margin))
    scale = attributes.float(2)
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
    margin = attributes.float(1)
    scale = attributes.float(2)
  }

  func margined(_ cosine: Double) -> (value: Double, slope: Double) { (cosine - margin, 1) }
}
