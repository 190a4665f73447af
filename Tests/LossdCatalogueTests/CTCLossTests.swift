import Glibc
import LossdCatalogue
import LossdEngine
import LossdPluginKit
import LossdTensor
import Testing

/// ctc_loss against the recursions in logarithms, where scaled ones may lose something: the same
/// for all magnitudes.
@Suite struct CTCLossTests {
  let evaluator: Evaluator

  init() throws {
    let registry = Registry()
    try registry.add(cataloguePlugin())
    evaluator = Evaluator(registry)
  }

  /// Log-probabilities of each step, and labels; class 0 is the blank.
  private struct Sequence {
    var x: [[Double]]
    var labels: [Int]
  }

  /// The loss of each sequence, all of a shape, and the gradient as (T, N, C).
  private func evaluate(_ sequences: [Sequence]) throws -> (losses: [Double], gradient: [Double]) {
    let (times, classes) = (sequences[0].x.count, sequences[0].x[0].count)
    let x = (0..<times).flatMap { time in sequences.flatMap { $0.x[time] } }
    func lengths(_ length: Int) -> Tensor {
      Tensor([Int64](repeating: Int64(length), count: sequences.count))
    }
    let labels: [Int64] = sequences.flatMap { $0.labels.map { Int64($0) } }
    let results = try evaluator.evaluate(
      "ctc_loss",
      inputs: [
        "log_probs": Tensor(x, shape: [times, sequences.count, classes]),
        "targets": Tensor(labels),
        "input_lengths": lengths(times), "target_lengths": lengths(sequences[0].labels.count),
      ], attributes: ["reduction": .string("none")], outputs: ["loss", "grad.log_probs"])
    return (
      try #require(results["loss"]).doubles, try #require(results["grad.log_probs"]).doubles
    )
  }

  private func logSum(_ terms: [Double]) -> Double {
    let largest = terms.max() ?? -.infinity
    if largest == -.infinity { return largest }
    // The largest itself is the 1.
    var others = terms
    others.remove(at: terms.firstIndex(of: largest) ?? 0)
    return largest + log1p(others.reduce(0) { $0 + exp($1 - largest) })
  }

  /// Graves and others (2006), equations 6 to 16, in logarithms.
  private func reference(_ sequence: Sequence) -> (loss: Double, gradient: [[Double]]) {
    let (x, steps) = (sequence.x, sequence.x.count)
    let path = [0] + sequence.labels.flatMap { [$0, 0] }
    let count = path.count
    let skips = path.indices.map { $0 >= 3 && path[$0] != 0 && path[$0] != path[$0 - 2] }
    func value(_ row: [Double], _ index: Int) -> Double {
      row.indices.contains(index) ? row[index] : -.infinity
    }
    var forward: [[Double]] = []
    for step in 0..<steps {
      forward.append(
        path.indices.map { s in
          if step == 0 { return s < 2 ? x[0][path[s]] : -.infinity }
          let before = forward[step - 1]
          let skipped = skips[s] ? before[s - 2] : -.infinity
          return logSum([before[s], value(before, s - 1), skipped]) + x[step][path[s]]
        })
    }
    let whole = logSum([forward[steps - 1][count - 1], value(forward[steps - 1], count - 2)])
    var rest = path.indices.map { $0 >= count - 2 ? 0 : -Double.infinity }
    var gradient = x.map { $0.map { exp($0) } }
    for step in (0..<steps).reversed() {
      for s in path.indices { gradient[step][path[s]] -= exp(forward[step][s] + rest[s] - whole) }
      let onward = path.indices.map { rest[$0] + x[step][path[$0]] }
      rest = path.indices.map { s in
        let skipped = s + 2 < count && skips[s + 2] ? onward[s + 2] : -.infinity
        return logSum([onward[s], value(onward, s + 1), skipped])
      }
    }
    return (-whole, gradient)
  }

  /// Beside the reference: the loss within `digits` of itself, or of `term`, and the gradient
  /// within what the reference itself may lose.
  private func check(
    _ sequence: Sequence, digits: Double = 1e-13, term: Double = 0,
    ofGradient tolerance: Double = 1e-11, _ comment: String
  ) throws {
    let (losses, gradient) = try evaluate([sequence])
    let (loss, wanted) = reference(sequence)
    let isClose =
      losses[0] == loss || (losses[0] - loss).magnitude <= digits * max(loss.magnitude, term)
    #expect(isClose, "\(comment): \(losses[0]), expected \(loss)")
    for (place, (ours, its)) in zip(gradient, wanted.joined()).enumerated() {
      let isClose = (ours - its).magnitude <= tolerance * max(1, its.magnitude)
      #expect(isClose, "\(comment), gradient [\(place)]: \(ours), expected \(its)")
    }
  }

  @Test(
    "states that are nothing beside a step's others carry all alignments",
    arguments: [50.0, 400, 800, 1e4, 1e6])
  func tinyStates(depth: Double) throws {
    // Until the middle the blank is all but certain; then it is impossible, and so is what comes
    // from it.
    for steps in [4, 5, 16, 61] {
      let impossible = -Double.infinity
      let early = [-1e-9, -depth, impossible, -depth]
      let late = [impossible, impossible, -0.25, -1.5]
      var x = [[Double]](repeating: early, count: steps)
      for step in steps / 2..<steps { x[step] = late }
      // By way of class 1 alone, which lasts for a step and is e^-depth of what stays with the
      // blank.
      x[steps / 2 - 1] = [0, -depth, impossible, impossible]
      try check(
        Sequence(x: x, labels: [1, 2]), ofGradient: 1e-15 * depth * 4 + 1e-13,
        "\(steps) steps")
      try check(
        Sequence(x: x.reversed(), labels: [2, 1]), ofGradient: 1e-15 * depth * 4 + 1e-13,
        "\(steps) steps, the other way round")
      try check(
        Sequence(x: x, labels: [1, 2, 3]), ofGradient: 1e-15 * depth * 4 + 1e-13,
        "\(steps) steps, three labels")
    }
  }

  @Test("the loss of a sequence that is all but certain has all its digits")
  func certain() throws {
    for rest in [1e-3, 1e-9, 1e-17, 1e-40, 1e-200] {
      let labels = [1, 2, 2, 3, 1]
      let path = [0, 1, 1, 0, 2, 0, 2, 3, 3, 1, 0, 0]
      let x = path.map { certain in
        (0..<4).map { $0 == certain ? -rest * 3 : log(rest) + 0.1 * Double($0) }
      }
      try check(Sequence(x: x, labels: labels), "rest \(rest)")
    }
  }

  @Test("log-probabilities of all magnitudes, normalised or not, some of them -infinity")
  func random() throws {
    let seed = UInt64.random(in: 0...(1 << 40))
    var generator = SeededGenerator(seed)
    for round in 0..<300 {
      let classes = Int.random(in: 2...6, using: &generator)
      let steps = Int.random(in: 1...40, using: &generator)
      let labels = (0..<Int.random(in: 0...min(steps, 20), using: &generator)).map { _ in
        Int.random(in: 1..<classes, using: &generator)
      }
      let scale = [1, 10, 300, 1e4][round % 4]
      let isNormal = round % 3 > 0
      let x = (0..<steps).map { _ in
        var row = (0..<classes).map { _ in Double.random(in: -scale...0, using: &generator) }
        if round % 5 == 0 { row[Int.random(in: 0..<classes, using: &generator)] = -.infinity }
        let sum = logSum(row)
        return isNormal ? row.map { $0 - sum } : row.map { $0 + 3 }
      }
      let sequence = Sequence(x: x, labels: labels)
      guard reference(sequence).loss.isFinite else {
        #expect(try evaluate([sequence]).losses[0] == .infinity, "seed \(seed), round \(round)")
        continue
      }
      try check(
        sequence, term: 1, ofGradient: 1e-14 * scale * Double(steps),
        "seed \(seed), round \(round)")
    }
  }

  @Test("log-probabilities beyond all exponents of a number", arguments: [1e16, 1e100, 1e300])
  func huge(scale: Double) throws {
    for unit in [-scale, scale] {
      let x: [[Double]] = (0..<6).map { step in
        (0..<3).map { unit * Double(1 + (step * 5 + $0 * 3) % 7) }
      }
      let sequence = Sequence(x: x, labels: [1, 2])
      let loss = reference(sequence).loss
      let ours = try evaluate([sequence]).losses[0]
      #expect((ours - loss).magnitude <= 1e-14 * loss.magnitude, "\(ours), expected \(loss)")
    }
  }

  @Test("NaN and infinity among a sample's log-probabilities make its loss NaN, and no other's")
  func specials() throws {
    var generator = SeededGenerator(5)
    let usual = (0..<9).map { _ in
      (0..<4).map { _ in Double.random(in: -4...0, using: &generator) }
    }
    let alone = try evaluate([Sequence(x: usual, labels: [1, 3])])
    for (value, place) in [(Double.nan, 0), (.infinity, 0), (.nan, 3), (.infinity, 1)] {
      for step in [1, 4, 8] {
        var x = usual
        x[step][place] = value
        let sequences = [usual, x, usual].map { Sequence(x: $0, labels: [1, 3]) }
        let (losses, gradient) = try evaluate(sequences)
        #expect(losses[1].isNaN, "\(value) at \(step), \(place)")
        for sample in [0, 2] {
          // The same bits, alone and beside others.
          #expect(losses[sample] == alone.losses[0])
          for step in 0..<9 {
            for place in 0..<4 {
              #expect(
                gradient[(step * 3 + sample) * 4 + place] == alone.gradient[step * 4 + place])
            }
          }
        }
      }
    }
    // A class that the sample has not is not looked at, nor is a second label at the first step.
    var x = usual
    x[3][2] = .nan
    x[0][3] = .nan
    #expect(try evaluate([Sequence(x: x, labels: [1, 3])]).losses == alone.losses)
  }
}
