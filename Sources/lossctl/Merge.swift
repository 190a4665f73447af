import ArgumentParser
import LossdClient
import LossdWire

/// lossctl merge FILE...
struct Merge: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Merge what parts of a data set came to.",
    discussion: """
      Each file is what `lossctl eval --save-state FILE` has written of a part. The result is that of one \
      evaluation of all parts; of built-in functions it is the same to the last bit, in whatever order \
      and however the rows were parted.
      """)

  /// Beside the total, as many as a request takes.
  private static let partsMax = 255

  @OptionGroup var server: ServerOption
  @OptionGroup var limit: AnswerLimit

  @Argument(help: "States, of the same function and attributes.", completion: .file())
  var files: [String]

  @Option(
    help: ArgumentHelp("Write what they came to together.", valueName: "file"),
    completion: .file())
  var saveState: String?

  @Flag(help: "Print JSON.")
  var json = false

  func run() async throws {
    try await reporting {
      let states = try files.map { try StateFile(reading: $0) }
      // The parser asks for one at least.
      let first = states[0]
      for state in states.dropFirst() { try first.check(state) }
      let client = try server.client()
      defer { client.close() }
      var total: SummaryMessage?
      var rest = states.map(\.summary)[...]
      while !rest.isEmpty {
        let parts = (total.map { [$0] } ?? []) + rest.prefix(Merge.partsMax)
        rest = rest.dropFirst(Merge.partsMax)
        total = try await limit.whileWaiting(for: client.address) {
          try await client.merge(
            first.function, parts, options: EvaluationOptions(attributes: first.attributes))
        }
      }
      guard let total else { return }
      if let kernels = total.whole?.kernels, kernels.contains(",") {
        printError(
          "lossctl: the parts were computed by different kernels (\(kernels.shown)), whose last "
            + "bits differ"
        )
      }
      if let saveState {
        try StateFile(
          path: saveState, function: first.function, attributes: first.attributes, summary: total
        ).write()
      }
      let outcome = BatchedEvaluation.Outcome(summary: total, saved: [])
      print(json ? outcome.json(first.function).text : outcome.text)
    }
  }
}
