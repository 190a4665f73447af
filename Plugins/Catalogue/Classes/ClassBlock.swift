import LossdKernelTable
import LossdKernels
import LossdPluginKit
import LossdTensor

/// Some positions of a classification loss that the kernels compute together, and what these want
/// to know of each, in scratch memory.
struct ClassBlock {
  static let positions = 256
  /// Bytes before what a kernel has for itself.
  static let headBytes = positions * (8 + 8 + 8 + 4)

  let losses: UnsafeMutablePointer<Double>
  let labels: UnsafeMutablePointer<Int32>
  let kernelScratch: UnsafeMutableRawPointer
  private let allScales: UnsafeMutablePointer<Double>
  private let allWeights: UnsafeMutablePointer<Double>

  private(set) var count = 0
  /// The weight of each position's class, 0 for an ignored one; nil: ones.
  private(set) var weights: UnsafeMutablePointer<Double>?
  /// What each position's gradient is multiplied by; nil: `scale`.
  private(set) var scales: UnsafeMutablePointer<Double>?
  private(set) var scale = 1.0

  /// Bytes with those of the kernels.
  static func bytes(_ input: TensorView, _ layout: ClassLayout) -> Int {
    headBytes
      + StridedRows.scratchBytes(
        size: layout.classes, isContiguous: layout.inner == 1,
        isDouble: input.dataType == .float64)
  }

  init(_ scratch: UnsafeMutableRawPointer) {
    losses = scratch.assumingMemoryBound(to: Double.self)
    allScales = losses + ClassBlock.positions
    allWeights = allScales + ClassBlock.positions
    let ends = UnsafeMutableRawPointer(allWeights + ClassBlock.positions)
    labels = ends.assumingMemoryBound(to: Int32.self)
    kernelScratch = UnsafeMutableRawPointer(labels + ClassBlock.positions)
  }

  /// Checks the targets of positions `first ..< first + count`, and adds their weights up.
  mutating func setLabels(
    _ kernels: KernelTable, _ call: Call, _ target: TensorView, _ classes: Int, _ first: Int,
    _ count: Int, _ total: ChunkTotal?
  ) throws(StatusError) {
    self.count = count
    let ignored = call.attributes.int(ClassPlaces.ignoreIndex)
    var block = LabelBlock(
      targets: target.elements(as: UInt8.self) + first * target.dataType.byteSize,
      kind: target.dataType == .int64 ? .int64 : target.dataType == .int32 ? .int32 : .uint8,
      count: count, ignored: ignored, classes: classes, labels: labels)
    let kept = kernels.labels(&block)
    if kept < 0 {
      for position in first..<first + count {
        let label = target.integer(position)
        if label != ignored { try checkLabel(label, position, target, classes) }
      }
    }
    guard let weight = call.input(ClassPlaces.weight) else {
      total?.add(Double(kept))
      return
    }
    weights = allWeights
    for index in 0..<count {
      allWeights[index] = labels[index] < 0 ? 0 : weight[Int(labels[index])]
    }
    total?.add(allWeights, count)
  }

  /// `count` positions that all count alike.
  mutating func setAll(_ count: Int) {
    self.count = count
    for index in 0..<count { labels[index] = 0 }
  }

  /// Sets what the gradients of positions from `first` on are multiplied by.
  mutating func setScales(_ call: Call, _ first: Int, weightSum: Double) {
    let reduction = LossReduction(call.attributes)
    guard reduction == .none, let upstream = call.input(ClassPlaces.upstream) else {
      scale = reduction.scale(call.input(ClassPlaces.upstream), 0, weightSum: weightSum)
      return
    }
    setScales(upstream, first)
  }

  /// Sets that the gradient of each position from `first` on is multiplied by a number of its own.
  mutating func setScales(_ upstream: TensorView, _ first: Int) {
    scales = allScales
    for index in 0..<count { allScales[index] = upstream[first + index] }
  }

  /// What a position's gradient is multiplied by; 0 for an ignored one, even where the scale is no
  /// number.
  func scale(_ index: Int) -> Double { labels[index] < 0 ? 0 : scales?[index] ?? scale }

  func weight(_ index: Int) -> Double { labels[index] < 0 ? 0 : weights?[index] ?? 1 }

  /// Whether a loss or a scale is no number, or so large that the kernels need not get it right.
  func hasExtremes(_ tiles: Tiles, wantsGradient: Bool) -> Bool {
    if Extremes.areIn(losses, count, above: tiles) { return true }
    guard wantsGradient else { return false }
    return scales.map { Extremes.areIn($0, count, above: tiles) } ?? tiles.isExtreme(scale)
  }

  /// Adds the losses up, and writes them where each is wanted.
  func finish(_ chunk: Chunk, _ perPosition: TensorView?, _ first: Int) {
    ChunkTotal(chunk, Sums.losses).add(losses, count)
    guard let perPosition else { return }
    for index in 0..<count { perPosition[first + index] = losses[index] }
  }
}

extension Extremes {
  fileprivate static func areIn(
    _ values: UnsafePointer<Double>, _ count: Int, above tiles: Tiles
  ) -> Bool {
    var found = false
    for index in 0..<count where tiles.isExtreme(values[index]) { found = true }
    return found
  }
}

/// Throws where a target's class is out of range.
@inline(__always)
func checkLabel(
  _ label: Int64, _ position: Int, _ target: TensorView, _ classes: Int
) throws(StatusError) {
  guard label < 0 || label >= Int64(classes) else { return }
  throw wrongClass(target, position, Int(label), classes)
}
