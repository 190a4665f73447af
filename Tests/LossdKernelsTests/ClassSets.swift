import Foundation
import LossdKernelTable
import LossdKernels
import Testing

/// Random arguments of cross entropy with class indices.
struct IndexSet {
  let item: KernelCase
  let layout: Layout
  let smoothing: Double
  let labels: UnsafeMutablePointer<Int32>
  let rowWeights: UnsafeMutablePointer<Double>
  let weights: Sample
  var scales: [Double]?
  private let owner: Owner

  private final class Owner {
    let labels: UnsafeMutablePointer<Int32>
    let weights: UnsafeMutablePointer<Double>
    init(_ count: Int) {
      labels = .allocate(capacity: count)
      weights = .allocate(capacity: count)
    }
    deinit {
      labels.deallocate()
      weights.deallocate()
    }
  }

  init(
    _ item: KernelCase, _ layout: Layout, _ smoothing: Double, _ source: inout SeededGenerator
  ) {
    self.item = item
    self.layout = layout
    self.smoothing = smoothing
    owner = Owner(layout.rows)
    labels = owner.labels
    rowWeights = owner.weights
    weights = Sample(
      item.kind, (0..<layout.size).map { _ in Double.random(in: 0.1...2, using: &source) })
    for row in 0..<layout.rows {
      labels[row] = Int32.random(in: -1..<Int32(layout.size), using: &source)
      rowWeights[row] = labels[row] < 0 ? 0 : weights[Int(labels[row])]
    }
    scales = (0..<layout.rows).map { _ in Double.random(in: -1...1, using: &source) }
  }

  var weightSum: Double { weights.values.reduce(0, +) }

  func run(
    _ x: Sample, wantsGradient: Bool = true, into given: Sample? = nil, isStreamed: Bool = false
  ) -> (losses: [Double], gradient: Sample) {
    let gradient = given ?? Sample(item.kind, count: layout.count)
    var losses = [Double](repeating: -1, count: layout.rows)
    layout.withScratch(item.kind) { scratch in
      losses.withUnsafeMutableBufferPointer { losses in
        (scales ?? []).withUnsafeBufferPointer { scales in
          guard let base = losses.baseAddress else { return }
          var call = RowCall(
            .crossEntropy, x: x.raw, gradient: wantsGradient ? gradient.raw : nil,
            rows: layout.strided,
            classes: RowClasses(
              labels: labels, rowWeights: rowWeights, scales: scales.baseAddress, losses: base,
              weights: weights.raw, weightSum: weightSum, smoothing: smoothing),
            scratch: scratch, isStreamed: isStreamed)
          item.table.rows(&call)
        }
      }
    }
    item.table.settle()
    return (losses, gradient)
  }

  func check(_ x: Sample, _ losses: [Double], _ gradient: Sample) {
    // Losses are float64 whatever the logits are: as good as their type, or float32.
    let lossKind: Kind = item.kind == .float64 ? .float64 : .float32
    for r in 0..<layout.rows {
      let logs = softmaxTruth(layout.row(x, r), logarithmic: true)
      let label = Int(labels[r])
      var truth: Truth = 0
      if label >= 0 {
        truth = -Truth(1 - smoothing) * Truth(rowWeights[r]) * logs[label]
        for c in 0..<layout.size {
          truth -= Truth(smoothing) / Truth(layout.size) * Truth(weights[c]) * logs[c]
        }
      }
      let name = "\(item) \(layout), smoothing \(smoothing), row \(r)"
      expectClose(
        losses[r], truth, term: 9, ulps: item.kind == .float64 ? 3 : 2, lossKind, name + " loss")
      let scale = Truth(scales?[r] ?? 1)
      for c in 0..<layout.size {
        var g: Truth = 0
        if label >= 0 {
          let own = Truth(1 - smoothing) * Truth(rowWeights[r])
          let each = Truth(smoothing) / Truth(layout.size)
          g = own * (exp(logs[c]) - (c == label ? 1 : 0))
          g += each * (exp(logs[c]) * Truth(weightSum) - Truth(weights[c]))
          g *= scale
        }
        expectClose(
          gradient[layout.place(r, c)], g, term: scale.magnitude * 2, ulps: 3, item.kind,
          name + " gradient \(c)")
      }
    }
  }
}

/// Random arguments of cross entropy with class probabilities.
struct ProbabilitySet {
  let item: KernelCase
  let layout: Layout
  let smoothing: Double
  let target: Sample
  let weights: Sample
  let scales: [Double]

  init(
    _ item: KernelCase, _ layout: Layout, _ smoothing: Double, _ source: inout SeededGenerator
  ) {
    self.item = item
    self.layout = layout
    self.smoothing = smoothing
    target = Sample(
      item.kind, (0..<layout.count).map { _ in Double.random(in: 0...1, using: &source) })
    weights = Sample(
      item.kind, (0..<layout.size).map { _ in Double.random(in: 0.1...2, using: &source) })
    scales = (0..<layout.rows).map { _ in Double.random(in: -1...1, using: &source) }
  }

  func run(
    _ x: Sample, into given: Sample? = nil, isStreamed: Bool = false
  ) -> (losses: [Double], gradient: Sample) {
    let gradient = given ?? Sample(item.kind, count: layout.count)
    var losses = [Double](repeating: -1, count: layout.rows)
    layout.withScratch(item.kind) { scratch in
      losses.withUnsafeMutableBufferPointer { losses in
        scales.withUnsafeBufferPointer { scales in
          guard let base = losses.baseAddress else { return }
          var call = RowCall(
            .probabilities, x: x.raw, y: target.raw, gradient: gradient.raw, rows: layout.strided,
            classes: RowClasses(
              scales: scales.baseAddress, losses: base, weights: weights.raw,
              smoothing: smoothing), scratch: scratch, isStreamed: isStreamed)
          item.table.rows(&call)
        }
      }
    }
    item.table.settle()
    return (losses, gradient)
  }

  func check(_ x: Sample, _ losses: [Double], _ gradient: Sample) {
    let lossKind: Kind = item.kind == .float64 ? .float64 : .float32
    for r in 0..<layout.rows {
      let logs = softmaxTruth(layout.row(x, r), logarithmic: true)
      let t = layout.row(target, r)
      let v = (0..<layout.size).map {
        Truth(weights[$0])
          * (Truth(t[$0]) * Truth(1 - smoothing) + Truth(smoothing) / Truth(layout.size))
      }
      let share = v.reduce(0, +)
      let truth = zip(v, logs).reduce(Truth(0)) { $0 - $1.0 * $1.1 }
      let name = "\(item) \(layout), smoothing \(smoothing), row \(r)"
      expectClose(
        losses[r], truth, term: 18 * share, ulps: item.kind == .float64 ? 4 : 2, lossKind,
        name + " loss")
      for c in 0..<layout.size {
        let g = Truth(scales[r]) * (exp(logs[c]) * share - v[c])
        expectClose(
          gradient[layout.place(r, c)], g, term: Truth(scales[r].magnitude) * share * 2, ulps: 3,
          item.kind, name + " gradient \(c)")
      }
    }
  }
}

extension KernelTable {
  /// Computes the elements of a loss and returns the sum of the losses.
  func total(_ call: inout ElementCall, isDouble: Bool) -> Double {
    let losses = UnsafeMutableRawPointer.allocate(
      byteCount: call.count * MemoryLayout<Double>.stride, alignment: 64)
    defer { losses.deallocate() }
    call.losses = losses
    let rough = elements(&call)
    if !rough.isFinite { return rough }
    var parts = [0.0, 0.0, 0.0]
    if exactSum(losses, call.count, &parts) { return parts[0] + parts[1] + parts[2] }
    var total: Truth = 0
    for index in 0..<call.count {
      total +=
        isDouble
        ? Truth(losses.assumingMemoryBound(to: Double.self)[index])
        : Truth(losses.assumingMemoryBound(to: Float.self)[index])
    }
    return Double(total)
  }
}
