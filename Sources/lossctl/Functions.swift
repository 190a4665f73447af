import ArgumentParser
import LossdClient
import LossdTensor
import LossdWire

/// lossctl functions [NAME]
struct Functions: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "List the daemon's functions, or describe one.")

  @OptionGroup var server: ServerOption
  @OptionGroup var limit: AnswerLimit

  @Argument(help: "The function to describe.", completion: functionNames)
  var name: String?

  @Flag(help: "Print JSON.")
  var json = false

  @Flag(help: "The functions that lossctl has built in; asks no daemon.")
  var embedded = false

  func run() async throws {
    try await reporting {
      let functions: [FunctionDescription]
      if embedded {
        functions = try EmbeddedEngine().functions(named: name)
      } else {
        let client = try server.client()
        functions = try await limit.whileWaiting(for: client.address) {
          try await client.functions(named: name ?? "")
        }
        client.close()
      }
      if json {
        print(JSON.list(functions.map(\.json)).text)
      } else if name == nil {
        printList(functions)
      } else {
        for function in functions { print(function.longText) }
      }
    }
  }
}

/// A line each: the built-in activations, the built-in losses, then those of each plugin, with an
/// empty line between.
private func printList(_ functions: [FunctionDescription]) {
  let width = functions.map(\.name.shown.count).max() ?? 0
  var groups: [(name: [String], functions: [FunctionDescription])] = []
  for function in functions {
    let isOwn = function.plugin == "catalogue"
    let name = isOwn ? ["", function.kind] : ["plugin", function.plugin, function.kind]
    if let place = groups.firstIndex(where: { $0.name == name }) {
      groups[place].functions.append(function)
    } else {
      groups.append((name, [function]))
    }
  }
  groups.sort { $0.name.lexicographicallyPrecedes($1.name) }
  for (place, group) in groups.enumerated() {
    if place > 0 { print() }
    for function in group.functions {
      print(
        padded(function.name.shown, width + 2) + padded(function.kind.shown, 12)
          + function.summary.shown)
    }
  }
}

/// What a shell offers where a function is wanted: the daemon's, or those of lossctl itself. As
/// bash, zsh and fish understand it.
let functionNames = CompletionKind.shellCommand(
  "sh -c 'lossctl functions || lossctl functions --embedded' 2>/dev/null | cut -d ' ' -f 1 | grep ."
)

extension FunctionDescription {
  /// As `lossctl functions NAME` prints it.
  var longText: String {
    var lines = [
      "\(name.shown): \(summary.shown)",
      "  \(kind.shown), of the plugin \(plugin.shown) \(version.shown)",
    ]
    lines.append("inputs")
    for input in inputs {
      let notes =
        (input.isRequired ? [] : ["optional"]) + (input.isKept ? ["stays in a stream"] : [])
        + (input.batching == .whole ? [] : ["cut into batches: \(input.batching.rawValue)"])
      lines.append(line(input.name, input.help, notes))
      lines.append(
        String(repeating: " ", count: 20)
          + input.dataTypes.map(\.description).joined(separator: ", "))
    }
    if !attributes.isEmpty { lines.append("attributes") }
    for attribute in attributes {
      var notes = [attribute.type]
      if let value = attribute.defaultValue { notes.append("default \(value.text)") }
      if attribute.isRequired { notes.append("required") }
      if !attribute.choices.isEmpty {
        notes.append("one of " + attribute.choices.joined(separator: ", "))
      }
      if let minimum = attribute.minimum { notes.append("at least \(minimum.text)") }
      if let maximum = attribute.maximum { notes.append("at most \(maximum.text)") }
      lines.append(line(attribute.name, attribute.help, notes))
    }
    lines.append("outputs")
    for output in outputs {
      lines.append(line(output.name, output.help, output.isDefault ? ["the default"] : []))
    }
    return lines.joined(separator: "\n")
  }

  private func line(_ name: String, _ help: String, _ notes: [String]) -> String {
    "  " + padded(name.shown, 18) + help.shown
      + (notes.isEmpty ? "" : " (\(notes.map(\.shown).joined(separator: "; ")))")
  }

  var json: JSON {
    .object([
      ("name", .string(name)), ("kind", .string(kind)), ("summary", .string(summary)),
      ("plugin", .string(plugin)), ("version", .string(version)),
      (
        "inputs",
        .list(
          inputs.map {
            .object([
              ("name", .string($0.name)), ("help", .string($0.help)),
              ("data_types", .list($0.dataTypes.map { .string($0.description) })),
              ("required", .bool($0.isRequired)), ("kept", .bool($0.isKept)),
              ("batch", .string($0.batching.rawValue)), ("classes", .bool($0.isClasses)),
            ])
          })
      ),
      (
        "outputs",
        .list(
          outputs.map {
            .object([
              ("name", .string($0.name)), ("help", .string($0.help)),
              ("default", .bool($0.isDefault)), ("rows", .bool($0.hasRows)),
            ])
          })
      ),
      ("attributes", .list(attributes.map(\.json))),
    ])
  }
}

extension FunctionDescription.Attribute {
  fileprivate var json: JSON {
    var members: [(String, JSON)] = [
      ("name", .string(name)), ("help", .string(help)), ("type", .string(type)),
      ("required", .bool(isRequired)),
    ]
    if let defaultValue { members.append(("default", defaultValue.json)) }
    if let minimum { members.append(("minimum", minimum.json)) }
    if let maximum { members.append(("maximum", maximum.json)) }
    if !role.isEmpty { members.append(("role", .string(role))) }
    if !choices.isEmpty { members.append(("choices", .list(choices.map { .string($0) }))) }
    return .object(members)
  }
}

extension AttributeValue {
  var text: String {
    switch self {
    case .bool(let value): value ? "true" : "false"
    case .int(let value): "\(value)"
    case .float(let value): "\(value)"
    case .string(let value): value
    }
  }

  var json: JSON {
    switch self {
    case .bool(let value): .bool(value)
    case .int(let value): .int(Int(value))
    case .float(let value): .number(value)
    case .string(let value): .string(value)
    }
  }
}

/// Filled up with spaces.
func padded(_ text: String, _ width: Int) -> String {
  text + String(repeating: " ", count: max(width - text.count, 1))
}

/// With so many digits behind the point.
func fixed(_ value: Double, _ digits: Int) -> String {
  guard value.isFinite, value.magnitude < 1e15 else { return "\(value)" }
  var factor = 1.0
  for _ in 0..<digits { factor *= 10 }
  let scaled = (value.magnitude * factor).rounded()
  let whole = (scaled / factor).rounded(.down)
  var text = "\(value < 0 ? "-" : "")\(Int(whole))"
  if digits > 0 {
    let rest = String(Int(scaled - whole * factor))
    text += "." + String(repeating: "0", count: max(digits - rest.count, 0)) + rest
  }
  return text
}
