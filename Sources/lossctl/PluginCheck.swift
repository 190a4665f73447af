import ArgumentParser
import LossdEngine
import LossdPluginHost
import LossdPluginKit
import LossdServer
import LossdTensor
import LossdWire

extension Plugin {
  /// lossctl plugin check FILE
  struct Check: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Open a plugin as the daemon would and say what is wrong with it; asks no daemon.",
      discussion: """
        The plugin is loaded and called in a process, with the daemon's confinement, limits and texts. With \
        --gradients every gradient is compared with finite differences at random points, for every choice of \
        the bools and strings among the attributes, and in every type that the function takes. What a function takes \
        beyond its declaration is guessed: say --range, --shape and --attr where the guess is wrong.
        """)
    @Argument(help: "The file.", completion: .file(extensions: ["so"])) var file: String
    @Flag(help: "Compare the gradients with finite differences.") var gradients = false
    @Option(help: "Check this function of the plugin alone.") var function: String?
    @Option(
      help: ArgumentHelp(
        "Random numbers for an input, such as target=0..1; may be repeated.",
        valueName: "name=low..high"))
    var range: [String] = []
    @Option(
      help: ArgumentHelp(
        "An input's shape, such as input=4x5 or grad.loss=; may be repeated.",
        valueName: "name=shape"))
    var shape: [String] = []
    @Option(help: ArgumentHelp("An attribute; may be repeated.", valueName: "name=value"))
    var attr: [String] = []
    @Option(help: "Other numbers give other points.") var seed: UInt64 = 1
    @OptionGroup var trial: PluginTryOptions

    func run() async throws {
      try await reporting {
        let path = try absolute(file)
        if gradients {
          // A copy: an author may build where others may write, from where the daemon would take
          // nothing.
          try withPrivateCopy(of: path) { try examine($0, of: path) }
        } else {
          try examine(path, of: path)
        }
      }
    }

    private func examine(_ copy: String, of path: String) throws {
      let probe = try trial.probe(copy, as: path)
      print(PluginMessage(probe.info, of: path).text)
      let descriptions = probe.entries.map(FunctionDescription.init)
      for note in probe.notes + descriptions.compactMap(\.batchingNote) { print("  \(note)") }
      if copy != path, let reason = PluginProbe.distrust(path) {
        print("  the daemon would not take it from there, but take what is installed: \(reason)")
      }
      if gradients { try compare(probe) }
      if let note = probe.rehearseEnd() { print("  \(note)") }
    }

    private func compare(_ probe: PluginProbe) throws {
      let descriptions = probe.entries.map(FunctionDescription.init)
      if let function, !descriptions.contains(where: { $0.name == function }) {
        throw Complaint("the plugin has no function \(function)", status: 64)
      }
      for description in descriptions where function == nil || description.name == function {
        let check = GradientCheck(
          probe: probe, description: description, options: try options(description))
        print(try check.run().text)
      }
    }

    private func options(_ description: FunctionDescription) throws -> GradientCheck.Options {
      var options = GradientCheck.Options()
      options.seed = seed
      for (name, text) in try namedArguments(range, "--range") {
        guard let dots = text.firstRange(of: ".."), let low = Double(text[..<dots.lowerBound]),
          let high = Double(text[dots.upperBound...]), low <= high
        else { throw Complaint("--range \(name)=\(text): expected LOW..HIGH", status: 64) }
        options.ranges[name] = low...high
      }
      for (name, text) in try namedArguments(shape, "--shape") {
        let sizes = text.split(separator: "x").map { Int($0) ?? -1 }
        guard sizes.allSatisfy({ (0...1000).contains($0) }), sizes.reduce(1, *) <= 10_000 else {
          throw Complaint(
            "--shape \(name)=\(text): expected sizes like 4x5, 10000 elements at most", status: 64)
        }
        options.shapes[name] = sizes
      }
      let values = try attributeValues(try namedArguments(attr, "--attr"), of: description)
      options.attributes = values.mapValues { value in
        switch value {
        case .bool(let bool): .bool(bool)
        case .int(let int): .int(int)
        case .float(let float): .float(float)
        case .string(let string): .string(string)
        }
      }
      return options
    }
  }
}

extension FunctionDescription {
  /// Why `lossctl eval` can never cut a data set for this function, whatever is given; nil: it can.
  fileprivate var batchingNote: String? {
    let remedy =
      "so lossctl eval refuses --batch-size and data sets over limits.payload_bytes"
    if !inputs.contains(where: { $0.batching == .rows || $0.batching == .broadcast }) {
      return
        "\(name): no input is declared to have rows (LOSSD_INPUT_ROWS in plugin.h), \(remedy)"
    }
    if !outputs.contains(where: \.hasRows) {
      return
        "\(name): no output is declared to have rows (LOSSD_OUTPUT_ROWS in plugin.h), \(remedy)"
    }
    return nil
  }
}

extension PluginMessage {
  fileprivate init(_ info: PluginInfo, of path: String) {
    self.init(name: info.name, version: info.version, file: path, functions: info.functions)
  }
}

extension GradientCheck.Report {
  var text: String {
    if outputs.isEmpty { return "\(function): has no gradient" }
    var text =
      "\(function): \(outputs.joined(separator: ", ")) agrees with finite differences at "
      + "\(points) points, \(combinations) "
      + "\(combinations == 1 ? "combination" : "combinations") of attributes and inputs; "
      + "relative error at most \(Float(worst)) in \(dataType)"
    if kinks > 0 { text += "; \(kinks) left out, since the loss has kinks there" }
    for (type, error) in types.sorted(by: { $0.key.rawValue < $1.key.rawValue }) {
      text += "; \(type) agrees with \(dataType) to \(Float(error))"
    }
    return text
  }
}
