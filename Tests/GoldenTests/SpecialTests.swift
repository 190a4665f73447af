import LossdCatalogue
import LossdEngine
import LossdPluginKit
import LossdTensor
import Testing

/// Zeros, denormals, the largest numbers, infinities and NaN: finite, infinite or NaN where torch
/// is.
@Suite struct SpecialTests {
  let evaluator: Evaluator
  let golden: GoldenFile

  init() throws {
    let registry = Registry()
    try registry.add(cataloguePlugin())
    evaluator = Evaluator(registry)
    golden = try GoldenFile("specials")
  }

  /// `3fn` is fffn.
  private func expanded(_ runs: String) -> [Character] {
    var kinds: [Character] = []
    var count = 0
    for character in runs {
      if let digit = character.wholeNumberValue {
        count = count * 10 + digit
      } else {
        kinds += Array(repeating: character, count: max(count, 1))
        count = 0
      }
    }
    return kinds
  }

  /// What the elements of the inputs were that had to do with this element of an output.
  private func context(_ row: GoldenFile.Case, _ index: Int, _ count: Int) -> String {
    row.inputs.sorted { $0.key < $1.key }.map { name, place in
      let values = golden.tensors[place].doubles
      if values.count <= 3 { return "\(name) \(values)" }
      let width = max(values.count / max(count, 1), 1)
      let start = count >= values.count ? index * values.count / count : index * width
      let from = max(values.count % 3 == 0 ? start / 3 * 3 : start, 0)
      return "\(name)[\(from)...] \(values[from..<min(from + 3, values.count)])"
    }.joined(separator: ", ")
  }

  @Test("results are special where torch's are, and in the same way")
  func kinds() throws {
    var compared = 0
    for row in golden.cases {
      let expected = try #require(row.kinds)
      let results = try evaluator.evaluate(golden, row, expected.keys.sorted())
      for (name, runs) in expected {
        let wanted = expanded(runs)
        let ours = try #require(results[name]).doubles
        #expect(ours.count == wanted.count)
        compared += wanted.count
        let wrong = zip(ours.indices, zip(ours, wanted)).filter { kind($1.0) != $1.1 }
        guard let (index, (value, torch)) = wrong.first else { continue }
        Issue.record(
          """
          \(wrong.count) of \(wanted.count) \(name) of \(golden.text(row)), first [\(index)]: \
          \(value), torch's \(torch); \(context(row, index, ours.count))
          """)
      }
    }
    print("\(compared) kinds compared")
  }
}
