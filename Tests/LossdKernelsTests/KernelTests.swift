import Foundation
import LossdKernelTable
import LossdKernels
import Testing

/// Every build against float64, over sizes around the lanes' and special values.
@Suite struct KernelTests {
  private static let builds = Kernels.all

  /// Errors in ulps of the larger of the result and `term`, the largest term that went into it.
  private func expectClose(
    _ ours: Float, _ truth: Double, term: Double = 0, ulps: Double = 3,
    _ comment: @autoclosure () -> String
  ) {
    if truth.isNaN {
      #expect(ours.isNaN, "\(comment()): \(ours), expected NaN")
    } else if Float(truth).isInfinite {
      #expect(ours == Float(truth), "\(comment()): \(ours), expected \(truth)")
    } else {
      let ulp = Double(Float(max(truth.magnitude, term, 1e-38)).ulp)
      #expect(
        (Double(ours) - truth).magnitude <= ulps * ulp, "\(comment()): \(ours), truth \(truth)")
    }
  }

  private func rows(_ count: Int, _ source: inout SeededGenerator) -> [Float] {
    let kind = Int.random(in: 0..<4, using: &source)
    var values = (0..<count).map { _ in
      kind == 3 ? 0 : Float.random(in: -1...1, using: &source) * [1, 10, 200][kind]
    }
    // One row in eight has something special in it.
    if count > 0, Int.random(in: 0..<8, using: &source) == 0 {
      let special: [Float] = [
        .nan, .infinity, -.infinity, 3e38, -3e38, 0x1p-149, -0.0, 104, -104,
      ]
      values[Int.random(in: 0..<count, using: &source)] =
        special[Int.random(in: 0..<special.count, using: &source)]
    }
    return values
  }

  private func reference(_ x: [Float], logarithmic: Bool) -> [Double] {
    let m = x.contains { $0.isNaN } ? .nan : Double(x.max() ?? -.infinity)
    let sum = x.reduce(0.0) { $0 + exp(Double($1) - m) }
    return x.map { logarithmic ? Double($0) - m - log(sum) : exp(Double($0) - m) / sum }
  }

  @Test("softmax and log-softmax of rows and columns", arguments: builds.indices)
  func softmax(build index: Int) {
    let build = KernelTests.builds[index]
    let table = build.float32
    var source = SeededGenerator()
    for columns in Array(1...18) + [31, 32, 33, 63, 64, 65, 70, 257, 1003] {
      for count in [1, 8, 19] where columns < 1000 || count < 8 {
        let data = (0..<count).map { _ in rows(columns, &source) }
        for logarithmic in [false, true] {
          var y = [Float](repeating: -1, count: count * columns + 1)
          let flat = data.flatMap { $0 }
          (logarithmic ? table.logSoftmax : table.softmax)(flat, &y, count, columns)
          #expect(y[count * columns] == -1, "written past the end")
          // The same as columns: transposed.
          var turned = [Float](repeating: 0, count: flat.count)
          for r in 0..<count { for c in 0..<columns { turned[c * count + r] = data[r][c] } }
          var z = [Float](repeating: -1, count: flat.count)
          (logarithmic ? table.logSoftmaxColumns : table.softmaxColumns)(
            turned, &z, columns, count, count)
          for r in 0..<count {
            let truth = reference(data[r], logarithmic: logarithmic)
            let finite = data[r].filter { $0.isFinite && $0.magnitude < 1e30 }
            let term =
              logarithmic ? Double((finite.map(\.magnitude).max() ?? 0) * 2) : 0
            for c in 0..<columns {
              let name = "\(build.name) \(count)x\(columns) [\(r), \(c)] of \(data[r][c])"
              // x - max is rounded in float32, as in torch: half an ulp of it in exp's argument.
              let distance = Double(data[r].max() ?? 0) - Double(data[r][c])
              let ulps = logarithmic ? 3 : 3 + (distance.isFinite ? distance : 0)
              expectClose(y[r * columns + c], truth[c], term: term, ulps: ulps, "rows " + name)
              expectClose(z[c * count + r], truth[c], term: term, ulps: ulps, "columns " + name)
            }
          }
        }
      }
    }
  }

  @Test("the gradients of softmax and log-softmax", arguments: builds.indices)
  func softmaxBackward(build index: Int) {
    let build = KernelTests.builds[index]
    let table = build.float32
    var source = SeededGenerator()
    for columns in Array(1...18) + [31, 32, 33, 65, 300] {
      for hasUpstream in [false, true] {
        let count = 9
        let x = (0..<count * columns).map { _ in Float.random(in: -5...5, using: &source) }
        let g = (0..<count * columns).map { _ in Float.random(in: -2...2, using: &source) }
        for logarithmic in [false, true] {
          var y = [Float](repeating: 0, count: x.count)
          g.withUnsafeBufferPointer { g in
            (logarithmic ? table.logSoftmaxBackward : table.softmaxBackward)(
              x, hasUpstream ? g.baseAddress : nil, &y, count, columns)
          }
          var fromOutput = [Float](repeating: 0, count: x.count)
          (logarithmic ? table.logSoftmax : table.softmax)(x, &fromOutput, count, columns)
          let output = fromOutput
          g.withUnsafeBufferPointer { g in
            (logarithmic ? table.logSoftmaxGradient : table.softmaxGradient)(
              output, hasUpstream ? g.baseAddress : nil, &fromOutput, count, columns)
          }
          for r in 0..<count {
            let part = r * columns..<(r + 1) * columns
            let p = reference(Array(x[part]), logarithmic: false)
            let up =
              hasUpstream ? g[part].map { Double($0) } : Array(repeating: 1.0, count: columns)
            let dot = zip(p, up).reduce(0.0) { $0 + (logarithmic ? $1.1 : $1.0 * $1.1) }
            for c in 0..<columns {
              let truth = logarithmic ? up[c] - p[c] * dot : p[c] * (up[c] - dot)
              let term =
                logarithmic ? max(2, (p[c] * dot).magnitude) : p[c] * max(2, dot.magnitude)
              expectClose(
                fromOutput[r * columns + c], truth, term: term, ulps: 24,
                "\(build.name) \(columns) columns, upstream \(hasUpstream), log \(logarithmic), output"
              )
              expectClose(
                y[r * columns + c], truth, term: term, ulps: 15,
                "\(build.name) \(columns) columns, upstream \(hasUpstream), log \(logarithmic)")
            }
          }
        }
      }
    }
  }

  @Test("cross entropy with its gradient", arguments: builds.indices)
  func crossEntropy(build index: Int) {
    let build = KernelTests.builds[index]
    let table = build.float32
    var source = SeededGenerator()
    for classes in Array(1...18) + [31, 32, 33, 65, 300] {
      for smoothing in [0.0, 0.3] {
        for isColumns in [false, true] {
          let count = 13
          let x = (0..<count * classes).map { _ in Float.random(in: -9...9, using: &source) }
          let labels = (0..<count).map { _ in Int32.random(in: -1..<Int32(classes), using: &source)
          }
          let weights = (0..<classes).map { _ in Float.random(in: 0...2, using: &source) }
          let rowWeights = labels.map { $0 < 0 ? 0 : Double(weights[Int($0)]) }
          let scales = (0..<count).map { _ in Double.random(in: -1...1, using: &source) }
          var losses = [Double](repeating: -1, count: count)
          var gradient = [Float](repeating: 0, count: x.count)
          let sum = weights.reduce(0.0) { $0 + Double($1) }
          x.withUnsafeBufferPointer { x in
            gradient.withUnsafeMutableBufferPointer { gradient in
              labels.withUnsafeBufferPointer { labels in
                rowWeights.withUnsafeBufferPointer { rowWeights in
                  weights.withUnsafeBufferPointer { weights in
                    scales.withUnsafeBufferPointer { scales in
                      losses.withUnsafeMutableBufferPointer { losses in
                        var call = CrossEntropyRows(
                          x: x.baseAddress!, gradient: gradient.baseAddress,
                          labels: labels.baseAddress!, rowWeights: rowWeights.baseAddress!,
                          scales: scales.baseAddress, losses: losses.baseAddress!,
                          classWeights: weights.baseAddress, classWeightSum: sum,
                          smoothing: smoothing, count: count, classes: classes,
                          step: isColumns ? 1 : classes, stride: isColumns ? count : 1)
                        table.crossEntropy(&call)
                      }
                    }
                  }
                }
              }
            }
          }
          for r in 0..<count {
            let place = { (c: Int) in isColumns ? c * count + r : r * classes + c }
            let row = (0..<classes).map { x[place($0)] }
            let logs = reference(row, logarithmic: true)
            var truth = 0.0
            if labels[r] >= 0 {
              truth = -(1 - smoothing) * rowWeights[r] * logs[Int(labels[r])]
              for c in 0..<classes {
                truth -= smoothing / Double(classes) * Double(weights[c]) * logs[c]
              }
            }
            let name =
              "\(build.name) \(classes) classes, smoothing \(smoothing), columns \(isColumns)"
            expectClose(Float(losses[r]), truth, term: 9, ulps: 2, name + " loss")
            for c in 0..<classes {
              var g = 0.0
              if labels[r] >= 0 {
                let y = c == Int(labels[r]) ? 1.0 : 0
                g =
                  scales[r]
                  * ((1 - smoothing) * rowWeights[r] * (exp(logs[c]) - y)
                    + smoothing / Double(classes) * (exp(logs[c]) * sum - Double(weights[c])))
              }
              expectClose(
                gradient[place(c)], g, term: scales[r].magnitude * 2, ulps: 3, name + " gradient")
            }
          }
        }
      }
    }
  }

  @Test("sigmoid and its gradient, specials included", arguments: builds.indices)
  func sigmoid(build index: Int) {
    let build = KernelTests.builds[index]
    let table = build.float32
    var source = SeededGenerator()
    for count in Array(0...40) + [1000] {
      var x = (0..<count).map { _ in Float.random(in: -30...30, using: &source) }
      for (place, value) in [
        Float.nan, .infinity, -.infinity, 0, -0.0, 88, -88, 120, -120, 0x1p-130,
      ]
      .enumerated() where place < count && count % 3 == 0 { x[place] = value }
      var y = [Float](repeating: -1, count: count + 1)
      table.sigmoid(x, &y, count)
      #expect(y[count] == -1)
      var z = [Float](repeating: -1, count: count + 1)
      table.sigmoidBackward(x, nil, &z, count)
      for i in 0..<count {
        let s = 1 / (1 + exp(-Double(x[i])))
        expectClose(y[i], s, "\(build.name) sigmoid(\(x[i]))")
        let slope =
          x[i].isInfinite
          ? 0 : exp(-Double(x[i].magnitude)) * pow(1 / (1 + exp(-Double(x[i].magnitude))), 2)
        expectClose(z[i], slope, ulps: 4, "\(build.name) sigmoid'(\(x[i]))")
      }
    }
  }

  @Test(
    "binary cross entropy with logits, torch's special values included", arguments: builds.indices)
  func binaryLogits(build index: Int) {
    let build = KernelTests.builds[index]
    let table = build.float32
    func run(_ x: [Float], _ y: [Float], _ p: [Float]?) -> (
      sum: Double, loss: [Float], gradient: [Float]
    ) {
      var losses = [Float](repeating: -1, count: x.count)
      var gradient = [Float](repeating: -1, count: x.count)
      var sum = 0.0
      x.withUnsafeBufferPointer { x in
        y.withUnsafeBufferPointer { y in
          (p ?? [0]).withUnsafeBufferPointer { pointer in
            losses.withUnsafeMutableBufferPointer { losses in
              gradient.withUnsafeMutableBufferPointer { gradient in
                var call = BinaryElements(
                  x: x.baseAddress!, target: y.baseAddress!, weight: nil,
                  posWeight: p == nil ? nil : pointer.baseAddress, losses: losses.baseAddress,
                  gradient: gradient.baseAddress, upstream: nil, scale: 0.5, count: x.count)
                sum = table.binaryLogits(&call)
              }
            }
          }
        }
      }
      return (sum, losses, gradient)
    }
    let inf = Float.infinity
    let special = run([inf, inf, -inf, -inf, .nan], [0, 1, 0, 1, 0], nil)
    #expect(special.loss[0] == inf)
    for place in 1...4 { #expect(special.loss[place].isNaN, "\(build.name) \(place)") }
    var source = SeededGenerator()
    for count in Array(1...33) + [1000] {
      for hasPosWeight in [false, true] {
        let x = (0..<count).map { _ in Float.random(in: -60...60, using: &source) }
        let y = (0..<count).map { _ in
          Float([0, 1, 0.25, 0.9][Int.random(in: 0..<4, using: &source)])
        }
        let p =
          hasPosWeight ? (0..<count).map { _ in Float.random(in: 0.1...5, using: &source) } : nil
        let got = run(x, y, p)
        var total = 0.0
        for i in 0..<count {
          let (a, b, w) = (Double(x[i]), Double(y[i]), Double(p?[i] ?? 1))
          let small = log1p(exp(-a.magnitude))
          let truth = b * w * (max(-a, 0) + small) + (1 - b) * (max(a, 0) + small)
          total += truth
          let name = "\(build.name) x \(a), y \(b), p \(w)"
          expectClose(
            got.loss[i], truth, term: (b == 0 || b == 1) && !hasPosWeight ? 0 : a.magnitude * w,
            ulps: 4, name)
          let s = 1 / (1 + exp(-a))
          let t = 1 / (1 + exp(a))
          expectClose(
            got.gradient[i], 0.5 * ((1 - b) * s - w * b * t),
            term: (b == 0 || b == 1) ? 0 : max(s, w * t), ulps: 5,
            name + " gradient")
        }
        expectClose(Float(got.sum), total, term: 0, ulps: 4, "\(build.name) sum of \(count)")
      }
    }
  }

  @Test("binary cross entropy of probabilities, the clamp included", arguments: builds.indices)
  func binaryProbabilities(build index: Int) {
    let build = KernelTests.builds[index]
    let table = build.float32
    var source = SeededGenerator()
    for count in Array(1...33) + [2000] {
      var x = (0..<count).map { _ in
        let value = Float.random(in: 0...1, using: &source)
        return [value, value * 1e-10, 1 - value * 1e-5, value * 0x1p-133][
          Int.random(in: 0..<4, using: &source)]
      }
      x[0] = [0, 1, 0x1p-149, 1 - 0x1p-24][count % 4]
      let y = x.map { _ in Float([0, 1, 0.25, 0.9].randomElement(using: &source) ?? 0) }
      var losses = [Float](repeating: -1, count: count)
      var gradient = [Float](repeating: -1, count: count)
      var sum = 0.0
      x.withUnsafeBufferPointer { x in
        y.withUnsafeBufferPointer { y in
          losses.withUnsafeMutableBufferPointer { losses in
            gradient.withUnsafeMutableBufferPointer { gradient in
              var call = BinaryElements(
                x: x.baseAddress!, target: y.baseAddress!,
                losses: losses.baseAddress, gradient: gradient.baseAddress, upstream: nil, scale: 1,
                count: count)
              sum = table.binaryProbabilities(&call)
            }
          }
        }
      }
      var total = 0.0
      for i in 0..<count {
        let (a, b) = (Double(x[i]), Double(y[i]))
        let truth = -(b * max(log(a), -100) + (1 - b) * max(log1p(-a), -100))
        total += truth
        let name = "\(build.name) x \(a), y \(b)"
        expectClose(losses[i], truth, term: b * max(-log(a), 0).clamped, ulps: 3, name)
        expectClose(
          gradient[i], (a - b) / max(a * (1 - a), Double(1e-12 as Float)), ulps: 4,
          name + " gradient")
      }
      expectClose(Float(sum), total, ulps: 3, "\(build.name) sum of \(count)")
      for bad in [Float.nan, 1.0000001, -0x1p-149, .infinity] {
        x[count / 2] = bad
        for (first, second) in [(x, y), (y, x)] {
          let sum = first.withUnsafeBufferPointer { first in
            second.withUnsafeBufferPointer { second in
              var call = BinaryElements(
                x: first.baseAddress!, target: second.baseAddress!, count: count)
              return table.binaryProbabilities(&call)
            }
          }
          #expect(sum.isNaN, "\(build.name) \(bad) among \(count)")
        }
      }
    }
  }

  @Test("float16 and bfloat16 convert exactly and round to nearest even", arguments: builds.indices)
  func conversions(build index: Int) {
    let build = KernelTests.builds[index]
    let all = (0...UInt16.max).map { $0 }
    var wide = [Float](repeating: 0, count: all.count)
    var back = [UInt16](repeating: 0, count: all.count)
    build.conversions.widenHalf(all, &wide, all.count)
    build.conversions.narrowHalf(wide, &back, all.count)
    for place in all.indices {
      let value = Float16(bitPattern: all[place])
      #expect(value.isNaN ? wide[place].isNaN : wide[place] == Float(value))
      if !value.isNaN { #expect(back[place] == all[place]) }
    }
    build.conversions.widenBFloat(all, &wide, all.count)
    build.conversions.narrowBFloat(wide, &back, all.count)
    for place in all.indices {
      #expect(wide[place].bitPattern == UInt32(all[place]) << 16)
      if !wide[place].isNaN { #expect(back[place] == all[place]) }
    }
    let ties: [Float] = [1 + 1 / 256, 1 + 3 / 256, 1 + 1 / 256 + 1e-6, .nan, 3.4e38]
    var rounded = [UInt16](repeating: 0, count: ties.count)
    build.conversions.narrowBFloat(ties, &rounded, ties.count)
    #expect(rounded[0] == 0x3F80 && rounded[1] == 0x3F82 && rounded[2] == 0x3F81)
    #expect(Float(bitPattern: UInt32(rounded[3]) << 16).isNaN && rounded[4] == 0x7F80)
  }
}

extension Double {
  /// At most the clamp of binary cross entropy.
  fileprivate var clamped: Double { Swift.min(self, 100) }
}

/// A repeatable source (SplitMix64, Steele et al. 2014), whose seed is printed.
struct SeededGenerator: RandomNumberGenerator {
  private var state: UInt64

  init() {
    let given = ProcessInfo.processInfo.environment["LOSSD_SEED"].flatMap { UInt64($0) }
    state = given ?? UInt64.random(in: 0...UInt64.max)
    print("seed \(state)")
  }

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var mixed = state
    mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
    mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
    return mixed ^ (mixed >> 31)
  }
}
