import Foundation
import LossdCatalogue
import LossdEngine
import LossdPluginKit
import LossdTensor
import Testing

/// Every function, argument and type against torch, by the golden values.
@Suite struct ValueTests {
  let evaluator: Evaluator

  init() throws {
    let registry = Registry()
    try registry.add(cataloguePlugin())
    evaluator = Evaluator(registry)
  }

  @Test("what torch refuses is an INVALID_ARGUMENT", arguments: GoldenFile.values)
  func refusals(_ file: String) throws {
    let golden = try GoldenFile(file)
    for row in golden.cases {
      guard let refusal = row.refusal else { continue }
      // Taken on purpose, for batches of a mean: docs/functions.md.
      if refusal == "upstream gradient differs from the result",
        let upstream = row.inputs["grad.loss"].map({ golden.tensors[$0] }),
        upstream.dataType == .float64, upstream.shape.isEmpty
      {
        #expect(throws: Never.self) { try evaluator.evaluate(golden, row, row.refused ?? []) }
        continue
      }
      // Torch's loss takes it, torch's backward does not: docs/functions.md.
      if isTargetOfOne(golden, row, refusal) {
        #expect(throws: Never.self) { try evaluator.evaluate(golden, row, row.refused ?? []) }
        continue
      }
      do {
        _ = try evaluator.evaluate(golden, row, row.refused ?? [])
        Issue.record("\(golden.text(row)) was taken; torch: \(refusal)")
      } catch {
        #expect((error as? StatusError)?.code == .invalidArgument, "\(golden.text(row)): \(error)")
      }
    }
  }

  @Test(
    "results are as near to the truth as torch's, and as special where they are special",
    arguments: GoldenFile.values)
  func values(_ file: String) throws {
    let golden = try GoldenFile(file)
    var sets: [String: Distances] = [:]
    var summary: [String: Distances] = [:]
    for row in golden.cases {
      guard let outputs = row.outputs else { continue }
      let results: [String: Tensor]
      do { results = try evaluator.evaluate(golden, row, outputs.keys.sorted()) } catch {
        Issue.record("\(golden.text(row)): \(error)")
        continue
      }
      for (name, places) in outputs {
        let ours = try #require(results[name])
        let torch = golden.tensors[places[0]]
        guard ours.dataType == torch.dataType, ours.shape == torch.shape else {
          Issue.record(
            """
            \(golden.text(row)): \(name) is \(ours.dataType) \(ours.shape), torch's \(torch.dataType) \
            \(torch.shape)
            """)
          continue
        }
        let distances = measure(
          ours, torch, truth: golden.tensors[places[1]],
          term: places[2] < 0 ? nil : golden.tensors[places[2]], "\(golden.text(row)): \(name)")
        let isReduced =
          name == "loss" && row.attributes?["reduction"]?.value != .string("none")
        let arguments = row.inputs.keys.sorted() + (row.attributes ?? [:]).keys.sorted()
        let kind = "\(row.function) \(name)\(isReduced ? " reduced" : "") \(ours.dataType)"
        sets["\(kind) \(arguments)", default: Distances()].add(distances)
        summary[kind, default: Distances()].add(distances)
      }
    }
    for (name, set) in sets {
      let floor = floor(name)
      #expect(
        set.isWithin(floor: floor),
        """
        \(name): worst \(set.worst) ulp, torch's \(set.torchWorst); \
        mean \(set.mean), torch's \(set.torchMean)
        """
      )
    }
    report(summary)
  }

  /// What a result may be off where torch's is less, ulps: docs/functions.md.
  private func floor(_ name: String) -> Double {
    if name.contains(" reduced ") {
      // The error of one element's exponential may be that of the sum.
      return name.hasPrefix("poisson_nll_loss") || name.hasPrefix("kl_div") ? 2 : 1
    }
    return name.hasPrefix("mish grad") || name.hasPrefix("erfc") ? 4 : 3
  }

  /// Whether the gradient of an input (C) is wanted, with a target of (1).
  private func isTargetOfOne(
    _ golden: GoldenFile, _ row: GoldenFile.Case, _ refusal: String
  ) -> Bool {
    guard refusal.hasPrefix("size mismatch"), let input = row.inputs["input"],
      let target = row.inputs["target"]
    else { return false }
    return golden.tensors[input].shape.count == 1 && golden.tensors[target].shape == [1]
  }

  private func measure(
    _ ours: Tensor, _ torch: Tensor, truth: Tensor, term: Tensor?, _ text: @autoclosure () -> String
  ) -> Distances {
    var distances = Distances()
    let (ours, type) = (ours.doubles, ours.dataType)
    let (torch, truth, terms) = (torch.doubles, truth.doubles, term?.doubles)
    for index in ours.indices {
      guard torch[index].isFinite, truth[index].isFinite else {
        if kind(ours[index]) != kind(torch[index]) {
          Issue.record("\(text())[\(index)] is \(ours[index]), torch's \(torch[index])")
        }
        continue
      }
      let step = ulp(max(truth[index].magnitude, terms?[index] ?? 0), type)
      distances.add(
        (ours[index] - truth[index]).magnitude / step,
        torch: (torch[index] - truth[index]).magnitude / step)
    }
    return distances
  }

  private func report(_ summary: [String: Distances]) {
    print("worst and mean error in ulps, ours beside torch's:")
    for (name, set) in summary.sorted(by: { $0.key < $1.key }) where set.count > 0 {
      print(
        String(
          format: "%@ (%d): %.3g and %.3g, torch %.3g and %.3g", name, set.count, set.worst,
          set.mean, set.torchWorst, set.torchMean))
    }
  }
}
