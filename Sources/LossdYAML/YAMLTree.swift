import LossdTensor

/// A tree that grows event by event. What an alias stands for is shared and never copied or walked,
/// so that aliases of aliases cost nothing.
struct YAMLTree {
  /// A list or mapping that has not ended.
  private struct Open {
    let line: Int
    let anchor: String?
    let isMapping: Bool
    var items: [YAMLNode] = []
    var pairs: [(key: YAMLKey, value: YAMLNode)] = []
    var keys: Set<String> = []
    /// The key whose value comes next.
    var key: YAMLKey?
  }

  private let limits: YAMLLimits
  private(set) var root: YAMLNode?
  private var open: [Open] = []
  private var anchors: [String: YAMLNode] = [:]
  private var documents = 0
  private var nodes = 0
  private var aliases = 0

  init(limits: YAMLLimits) { self.limits = limits }

  mutating func take(_ event: YAMLEvent) throws(YAMLError) {
    let line = event.line
    switch event.kind {
    case .nothing: return
    case .document:
      documents += 1
      if documents > 1 { throw YAMLError(line: line, text: "a second document, expected one") }
    case .scalar(let text, let anchor, let isPlain):
      try count(line)
      guard !text.utf8.contains(0) else { throw YAMLError(line: line, text: "a NUL in a text") }
      let isNull = isPlain && ["", "~", "null", "Null", "NULL"].contains(text)
      try add(YAMLNode(content: .scalar(text), line: line, isNull: isNull), anchor)
    case .alias(let name):
      try count(line)
      aliases += 1
      guard aliases <= limits.aliasesMax else {
        throw YAMLError(
          line: line, text: "over \(limits.aliasesMax) aliases (*NAME), the most that there may be")
      }
      guard let node = anchors[name] else {
        throw YAMLError(line: line, text: "an alias without its anchor (&NAME) before it")
      }
      try add(node, nil, at: line)
    case .listBegins(let anchor): try begin(Open(line: line, anchor: anchor, isMapping: false))
    case .mappingBegins(let anchor): try begin(Open(line: line, anchor: anchor, isMapping: true))
    case .ends:
      // Libyaml ends nothing that has not begun.
      guard let ended = open.popLast() else { return }
      let content: YAMLNode.Content =
        ended.isMapping ? .mapping(ended.pairs) : .list(ended.items)
      try add(YAMLNode(content: content, line: ended.line, isNull: false), ended.anchor)
    }
  }

  private mutating func begin(_ new: Open) throws(YAMLError) {
    try count(new.line)
    guard open.count < limits.depthMax else {
      throw YAMLError(
        line: new.line,
        text:
          "over \(limits.depthMax) lists and mappings within one another, the most that may be"
      )
    }
    if let last = open.last, last.isMapping, last.key == nil {
      throw YAMLError(line: new.line, text: "a key that is a list or a mapping, expected a text")
    }
    open.append(new)
  }

  private mutating func count(_ line: Int) throws(YAMLError) {
    nodes += 1
    guard nodes <= limits.nodesMax else {
      throw YAMLError(
        line: line, text: "over \(limits.nodesMax) keys and values, the most that there may be")
    }
  }

  /// Puts a whole node where it belongs; `line` is where it stands, of an alias another than the
  /// node's own.
  private mutating func add(_ node: YAMLNode, _ anchor: String?, at line: Int? = nil)
    throws(YAMLError)
  {
    if let anchor { anchors[anchor] = node }
    guard let last = open.indices.last else {
      root = node
      return
    }
    guard open[last].isMapping else {
      open[last].items.append(node)
      return
    }
    if let key = open[last].key {
      open[last].pairs.append((key, node))
      open[last].key = nil
      return
    }
    let line = line ?? node.line
    guard case .scalar(let text) = node.content else {
      throw YAMLError(line: line, text: "a key that is a list or a mapping, expected a text")
    }
    guard open[last].keys.insert(text).inserted else {
      throw YAMLError(line: line, text: "\(text.shownBriefly) is there twice")
    }
    open[last].key = YAMLKey(text: text, line: line)
  }
}
