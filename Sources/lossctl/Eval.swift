import ArgumentParser
import Glibc
import LossdClient
import LossdFiles
import LossdTensor
import LossdWire

/// lossctl eval FUNCTION
struct Eval: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Evaluate a function on tensors from .npy and .safetensors files.",
    discussion: """
      A tensor of a .safetensors file that holds several is FILE:NAME. With --batch-size the files are \
      read and sent in batches and need not fit in memory; what does not fit into one call is sent in \
      batches anyway. Batches give what one call would: what the function does not declare to be the \
      same, such as softmax along dimension 0, is refused.
      """)

  @OptionGroup var server: ServerOption

  @Argument(help: "The function, such as cross_entropy.", completion: functionNames)
  var function: String

  @Option(
    help: ArgumentHelp("Logits, probabilities or log-probabilities.", valueName: "file"),
    completion: tensorFiles)
  var input: String?

  @Option(
    help: ArgumentHelp("Class indices, or like input.", valueName: "file"), completion: tensorFiles)
  var target: String?

  @Option(
    help: ArgumentHelp("Weights of classes or elements.", valueName: "file"),
    completion: tensorFiles)
  var weight: String?

  @Option(
    help: ArgumentHelp("Weights of the positive terms.", valueName: "file"), completion: tensorFiles
  )
  var posWeight: String?

  @Option(
    help: ArgumentHelp(
      "Any input by name, such as grad.loss=up.npy; may be repeated.", valueName: "name=file"))
  var tensor: [String] = []

  @Option(
    help: ArgumentHelp(
      "An attribute, such as reduction=sum; may be repeated.", valueName: "name=value"))
  var attr: [String] = []

  @Option(
    help: ArgumentHelp(
      "Results wanted, with commas, such as loss,grad.input; the function's own by default.",
      valueName: "names"))
  var want: String?

  @Option(
    help: ArgumentHelp("Write a result to a .npy file; may be repeated.", valueName: "name=file"))
  var save: [String] = []

  @Option(help: ArgumentHelp("Rows a batch.", valueName: "n"))
  var batchSize: Int?

  @Option(
    help: ArgumentHelp(
      "Write what the data set came to, for lossctl merge.", valueName: "file"),
    completion: .file())
  var saveState: String?

  @Option(help: ArgumentHelp("Give up after so many seconds.", valueName: "seconds"))
  var timeout: Double?

  @Option(
    help: ArgumentHelp(
      "Where the daemon crashes, or is away, go on after the last answered batch for so many "
        + "seconds after that.",
      valueName: "seconds"))
  var retry: Double?

  @Flag(help: "Print JSON.")
  var json = false

  @Flag(help: "Evaluate in lossctl itself, without a daemon.")
  var embedded = false

  func run() async throws {
    try await reporting {
      let inputs = try openInputs()
      let saves = try namedArguments(save, "--save")
      var outputs = want?.split(separator: ",").map { $0.trimmed } ?? []
      if outputs.isEmpty && !saves.isEmpty {
        outputs = saves.map(\.name)
      }
      for (name, _) in saves where !outputs.contains(name) {
        throw Complaint("--save \(name): it is not among the results wanted", status: 64)
      }
      if let batchSize, batchSize < 1 {
        throw Complaint("--batch-size is \(batchSize), expected at least 1", status: 64)
      }
      for (name, seconds) in [("--retry", retry), ("--timeout", timeout)] {
        if let seconds, !(seconds >= 0) {
          throw Complaint("\(name) is \(seconds), expected at least 0 seconds", status: 64)
        }
      }
      if embedded {
        try evaluateEmbedded(inputs, outputs, saves)
      } else {
        try await evaluate(inputs, outputs, saves)
      }
    }
  }

  // MARK: - Arguments

  private func openInputs() throws -> [(name: String, stored: StoredTensor)] {
    var files: [(name: String, file: String)] = []
    for (name, file) in [
      ("input", input), ("target", target), ("weight", weight), ("pos_weight", posWeight),
    ] {
      if let file { files.append((name, file)) }
    }
    files += try namedArguments(tensor, "--tensor").map { ($0.name, $0.value) }
    return try files.map { ($0.name, try TensorFile.tensor(at: $0.file)) }
  }

  // MARK: - Evaluating

  private func evaluateEmbedded(
    _ inputs: [(name: String, stored: StoredTensor)], _ outputs: [String],
    _ saves: [(name: String, value: String)]
  ) throws {
    if batchSize != nil { throw Complaint("--batch-size needs a daemon", status: 64) }
    if saveState != nil { throw Complaint("--save-state needs a daemon", status: 64) }
    let engine = try EmbeddedEngine()
    let description = try engine.functions(named: function)[0]
    let results = try engine.evaluate(
      function, inputs: inputs.map { ($0.name, $0.stored.tensor()) },
      attributes: try attributeValues(try namedArguments(attr, "--attr"), of: description),
      outputs: outputs)
    try report(results, saves)
  }

  private func evaluate(
    _ inputs: [(name: String, stored: StoredTensor)], _ outputs: [String],
    _ saves: [(name: String, value: String)]
  ) async throws {
    let client = try server.client()
    defer { client.close() }
    let retry = Retry(seconds: retry, timeout: timeout)
    do {
      try await retry.repeating { timeout in
        try await evaluate(client, inputs, outputs, saves, retry, timeout: timeout)
      }
    } catch {
      let error = (error as? Retry.Over)?.error ?? error
      // A daemon that does not answer reads nothing either, perhaps.
      if let error = error as? StatusError, error.code != .unavailable { await client.flush() }
      throw error
    }
    // The daemon has its memory back at once, and not some time after the connection's end.
    await client.flush()
  }

  private func evaluate(
    _ client: Client, _ inputs: [(name: String, stored: StoredTensor)], _ outputs: [String],
    _ saves: [(name: String, value: String)], _ retry: Retry, timeout: Double?
  ) async throws {
    let known = try await client.functions(named: function, timeout: timeout)
    guard let description = known.first else {
      throw Complaint("the daemon has no function \(function)")
    }
    let options = EvaluationOptions(
      attributes: try attributeValues(try namedArguments(attr, "--attr"), of: description),
      outputs: outputs, timeout: timeout)
    let limit = client.payloadBytesMax(try await client.hello(timeout: timeout))
    if let batches = try batches(client, description, inputs, options, saves, limit, retry) {
      let result = try await batches.run()
      if let saveState {
        try StateFile(
          path: saveState, function: function, attributes: options.attributes,
          summary: result.summary
        ).write()
      }
      print(json ? result.json(function).text : result.text)
    } else {
      try await evaluateAtOnce(client, description, inputs, options, saves, retry)
    }
  }

  /// One call. Big tensors lie in memory that the daemon shares, where it has some.
  private func evaluateAtOnce(
    _ client: Client, _ description: FunctionDescription,
    _ inputs: [(name: String, stored: StoredTensor)], _ options: EvaluationOptions,
    _ saves: [(name: String, value: String)], _ retry: Retry
  ) async throws {
    var tensors: [(name: String, tensor: Tensor)] = []
    for (name, stored) in inputs {
      tensors.append((name, try await stored.shared(with: client, retry)))
    }
    var options = options
    if options.outputs.isEmpty {
      options.outputs = description.outputs.filter(\.isDefault).map(\.name)
    }
    var places: [String: Tensor] = [:]
    let placed =
      description.isBuiltIn ? BatchRule.placed(options.outputs, of: inputs, options.attributes) : []
    for (name, like) in placed where like.byteCount >= BatchMemory.bytesMin {
      places[name] = try await client.sharedMemory(like.byteCount, timeout: retry.timeLeft)?.tensor(
        like.dataType, like.shape)
    }
    let evaluated = try await client.evaluate(
      function, inputs: tensors, options: options, into: places)
    try report(evaluated.outputs, saves) { try evaluated.checkIntact() }
  }

  /// How the files are evaluated in batches; nil: in one call.
  private func batches(
    _ client: Client, _ description: FunctionDescription,
    _ inputs: [(name: String, stored: StoredTensor)], _ options: EvaluationOptions,
    _ saves: [(name: String, value: String)], _ limit: Int, _ retry: Retry
  ) throws -> BatchedEvaluation? {
    let bytes = BatchRule.payloadBytes(inputs.map { $0.stored.byteCount })
    let fits = bytes <= limit
    if fits && batchSize == nil && saveState == nil { return nil }
    let rule: BatchRule
    do throws(BatchRule.Uncuttable) {
      rule = try BatchRule(description, inputs, options.attributes, outputs: options.outputs)
    } catch {
      if fits {
        let option = batchSize == nil ? "--save-state" : "--batch-size"
        throw Complaint(
          "\(option): \(function) cannot be cut into batches: \(error.text); without "
            + "\(option) it is one call", status: 64)
      }
      throw StatusError(
        .resourceExhausted,
        "\(function): the tensors take \(bytes) bytes, the daemon takes payloads of up to \(limit) "
          + "(limits.payload_bytes), and they cannot be cut into batches: \(error.text)")
    }
    // Of no rows there is no batch: one call says what a mean of nothing is.
    if rule.rows == 0 {
      if saveState == nil { return nil }
      throw Complaint("--save-state: \(function) has no rows here, and so no state", status: 64)
    }
    return try BatchedEvaluation(
      client: client, description: description, rule: rule, options: options, saves: saves,
      batchSize: batchSize, payloadBytesMax: limit, retry: retry)
  }

  /// Saves and prints. `check` throws where the results are not what they were; then no file is
  /// written.
  private func report(
    _ results: [(name: String, tensor: Tensor)], _ saves: [(name: String, value: String)],
    _ check: () throws -> Void = {}
  ) throws {
    for (name, file) in saves {
      guard let result = results.first(where: { $0.name == name }) else { continue }
      try NPYWriter.write(result.tensor, to: file, check)
    }
    let saved = Dictionary(saves.map { ($0.name, $0.value) }, uniquingKeysWith: { $1 })
    if json {
      print(
        JSON.object([
          ("function", .string(function)),
          ("outputs", .object(results.map { ($0.name, $0.tensor.json(savedTo: saved[$0.name])) })),
        ]).text)
    } else {
      for (name, tensor) in results {
        print("\(name.shown): \(tensor.text(savedTo: saved[name]))")
      }
    }
  }
}

/// What a shell offers where a tensor's file is wanted.
private let tensorFiles = CompletionKind.file(extensions: ["npy", "safetensors"])
