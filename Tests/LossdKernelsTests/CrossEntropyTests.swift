import Foundation
import LossdKernelTable
import LossdKernels
import Testing

/// The losses over classes, with their gradients, against the truth.
@Suite struct CrossEntropyTests {
  private static let classes = Array(1...18) + [31, 32, 33, 34, 65, 300]
  private static let shapes = [
    (1, false), (13, false), (13, true), (16, false), (37, false), (37, true),
  ]

  private func logits(
    _ item: KernelCase, _ layout: Layout, _ source: inout SeededGenerator
  ) -> Sample {
    Sample(
      item.kind, (0..<layout.count).map { _ in Double.random(in: -9...9, using: &source) },
      misplaced: Int.random(in: 0..<3, using: &source))
  }

  @Test("cross entropy with its gradient", arguments: KernelCase.all)
  func indices(_ item: KernelCase) {
    var source = SeededGenerator()
    for size in CrossEntropyTests.classes {
      for (count, isColumns) in CrossEntropyTests.shapes {
        let layout = Layout(rows: count, size: size, isColumns: isColumns)
        for smoothing in [0.0, 0.3] {
          let set = IndexSet(item, layout, smoothing, &source)
          let x = logits(item, layout, &source)
          let (losses, gradient) = set.run(x, isStreamed: Bool.random(using: &source))
          #expect(gradient.isIntact, "written past the end")
          set.check(x, losses, gradient)
          let (onlyLosses, _) = set.run(x, wantsGradient: false)
          #expect(onlyLosses == losses, "\(item) \(layout), without gradient")
          let inPlace = x.copy()
          let (same, _) = set.run(inPlace, into: inPlace)
          #expect(
            same == losses && inPlace.values == gradient.values, "\(item) \(layout), in place")
        }
      }
    }
  }

  @Test("gradients hardly more than nothing keep their digits", arguments: KernelCase.all)
  func tiny(_ item: KernelCase) {
    var source = SeededGenerator()
    for size in [10, 100] {
      let layout = Layout(rows: 16, size: size, isColumns: false)
      var set = IndexSet(item, layout, 0, &source)
      let scale = item.kind == .float64 ? 0x1p-1020 : 0x1p-124
      set.scales = set.scales?.map { _ in scale }
      let x = logits(item, layout, &source)
      let (losses, gradient) = set.run(x)
      set.check(x, losses, gradient)
    }
  }

  @Test("cross entropy with class probabilities and its gradient", arguments: KernelCase.all)
  func probabilities(_ item: KernelCase) {
    var source = SeededGenerator()
    for size in CrossEntropyTests.classes {
      for (count, isColumns) in CrossEntropyTests.shapes {
        let layout = Layout(rows: count, size: size, isColumns: isColumns)
        for smoothing in [0.0, 0.3] {
          let set = ProbabilitySet(item, layout, smoothing, &source)
          let x = logits(item, layout, &source)
          let (losses, gradient) = set.run(x, isStreamed: Bool.random(using: &source))
          #expect(gradient.isIntact, "written past the end")
          set.check(x, losses, gradient)
          let inPlace = x.copy()
          let (same, _) = set.run(inPlace, into: inPlace)
          #expect(
            same == losses && inPlace.values == gradient.values, "\(item) \(layout), in place")
        }
      }
    }
  }

  @Test("an infinity, a NaN or an overflow reaches the loss", arguments: KernelCase.all)
  func extremes(_ item: KernelCase) {
    var source = SeededGenerator()
    for size in [3, 20, 40] {
      for isColumns in [false, true] {
        let layout = Layout(rows: 17, size: size, isColumns: isColumns)
        for special in [Double.nan, .infinity, -.infinity] {
          let x = logits(item, layout, &source)
          let set = ProbabilitySet(item, layout, 0, &source)
          set.target[layout.place(5, 1)] = 0
          x[layout.place(5, 1)] = special
          let (losses, _) = set.run(x)
          #expect(!losses[5].isFinite, "\(item) \(layout) \(special)")
          #expect(losses.enumerated().allSatisfy { $0.offset == 5 || $0.element.isFinite })
        }
        if item.kind == .float16 { continue }
        let x = logits(item, layout, &source)
        let set = ProbabilitySet(item, layout, 0, &source)
        set.target[layout.place(5, 1)] = 0x1p-100
        x[layout.place(5, 1)] = item.kind == .float64 ? -1.5e308 : -2e38
        #expect(set.run(x).losses[5].isNaN, "\(item) \(layout), far apart")
      }
    }
  }

  @Test("negative log likelihood with its gradient", arguments: KernelCase.all)
  func likelihood(_ item: KernelCase) {
    var source = SeededGenerator()
    for size in CrossEntropyTests.classes {
      for (count, isColumns) in CrossEntropyTests.shapes {
        let layout = Layout(rows: count, size: size, isColumns: isColumns)
        for isPlain in [true, false] {
          let set = IndexSet(item, layout, 0, &source)
          let x = logits(item, layout, &source)
          let y = Sample(
            item.kind, count: layout.count, misplaced: Int.random(in: 0..<3, using: &source))
          var losses = [Double](repeating: 7, count: count)
          var call = RowCall(
            .likelihood, x: x.raw, gradient: y.raw, rows: layout.strided,
            classes: RowClasses(
              labels: set.labels, rowWeights: isPlain ? nil : UnsafePointer(set.rowWeights),
              scale: 0.5), scratch: y.raw, isStreamed: Bool.random(using: &source))
          losses.withUnsafeMutableBufferPointer { buffer in
            call.classes.losses = buffer.baseAddress
            item.table.rows(&call)
          }
          item.table.settle()
          #expect(y.isIntact, "written past the end")
          for r in 0..<count {
            let label = Int(set.labels[r])
            let w = isPlain ? 1 : set.rowWeights[r]
            let loss = label < 0 ? 0 : -Truth(w) * Truth(x[layout.place(r, label)])
            if (Truth(losses[r]) - loss).magnitude > 1e-15 * loss.magnitude {
              Issue.record("\(item) \(layout) loss \(losses[r]), truth \(loss)")
            }
            for c in 0..<size {
              expectClose(
                y[layout.place(r, c)], c == label ? -0.5 * Truth(w) : 0, ulps: 0.5, item.kind,
                "\(item) \(layout) [\(r), \(c)]")
            }
          }
        }
      }
    }
  }
}
