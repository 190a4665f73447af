import LossdTensor
import LossdWire
import Testing

@testable import lossctl

@Suite struct TextTests {
  @Test(
    "JSON has what it cannot hold as strings, and no character that would end one",
    arguments: [
      (JSON.number(.nan), "\"NaN\""), (.number(-.infinity), "\"-Infinity\""),
      (.number(0.1), "0.1"), (.unsigned(.max), "18446744073709551615"), (.bool(false), "false"),
      (.string("a\"\\\n\t\u{0}\u{1F}\u{E9}"), "\"a\\\"\\\\\\n\\t\\u0000\\u001f\u{E9}\""),
      (.list([.int(-1), .list([])]), "[-1, []]"),
      (.object([("b", .int(1)), ("a\"", .object([]))]), "{\"b\": 1, \"a\\\"\": {}}"),
    ])
  func json(value: JSON, text: String) { #expect(value.text == text) }

  @Test("an element is printed in the fewest digits that read back, and many are counted")
  func tensors() {
    #expect(Tensor([0.1] as [Float], shape: []).text(savedTo: nil) == "0.1")
    #expect(Tensor([0.1] as [Double], shape: [1]).text(savedTo: nil) == "float64 (1,) [0.1]")
    let many = Tensor((0..<21).map { Float($0) }, shape: [21]).text(savedTo: nil)
    #expect(many.hasPrefix("float32 (21,) [0.0, 1.0") && many.hasSuffix("19.0, ... (21 elements)]"))
    #expect(
      Tensor([1, 2] as [Float], shape: [2]).text(savedTo: "x.npy")
        == "float32 (2,), written to x.npy")
  }

  @Test("blanks at both ends go, those within stay")
  func trimmed() {
    #expect(" \t a b\n".trimmed == "a b")
    #expect(" ".trimmed.isEmpty)
  }
}

@Suite struct AttributeTextTests {
  private let function = FunctionDescription(
    name: "f", kind: "loss",
    attributes: [
      FunctionDescription.Attribute(name: "flag", type: "bool"),
      FunctionDescription.Attribute(name: "count", type: "int"),
      FunctionDescription.Attribute(name: "factor", type: "float"),
      FunctionDescription.Attribute(name: "kind", type: "string"),
    ])

  @Test("NAME=VALUE becomes a value of the type that the function declares")
  func values() throws {
    let arguments = try namedArguments(
      ["flag=true", "count=-3", "factor=1e-3", "kind=a=b", "none=1"], "--attr")
    #expect(
      try attributeValues(arguments, of: function) == [
        "flag": .bool(true), "count": .int(-3), "factor": .float(0.001), "kind": .string("a=b"),
        "none": .string("1"),
      ])
  }

  @Test(
    "what is no value of that type is named with what is expected",
    arguments: [
      ("flag=1", "--attr flag=1: expected true or false"),
      ("count=1.5", "--attr count=1.5: expected a whole number"),
      ("count=9223372036854775808", "--attr count=9223372036854775808: expected a whole number"),
      ("factor=", "--attr factor=: expected NAME=VALUE"), ("=1", "--attr =1: expected NAME=VALUE"),
      ("factor=x", "--attr factor=x: expected a number"),
    ])
  func wrong(argument: String, text: String) {
    do {
      _ = try attributeValues(try namedArguments([argument], "--attr"), of: function)
      Issue.record("it is taken")
    } catch {
      #expect("\(error)" == text)
      #expect((error as? Complaint)?.status == 64)
    }
  }

  @Test("a command that does not exist is named with those that do")
  func commands() {
    #expect(Lossctl.wrongCommand(["eval", "anything"]) == nil)
    #expect(Lossctl.wrongCommand(["--server", "unix:/a", "status"]) == nil)
    #expect(Lossctl.wrongCommand(["--server=unix:/a", "--help"]) == nil)
    #expect(Lossctl.wrongCommand(["stats"])?.contains("there is no command `stats`") == true)
    #expect(Lossctl.wrongCommand(["plugin", "lst"])?.contains("lossctl plugin takes") == true)
  }
}

@Suite struct BenchHistogramTests {
  @Test(
    "a percentile is at most a sixty-fourth above a value of its rank, for values of every size")
  func percentiles() {
    var histogram = BenchHistogram()
    var values: [UInt64] = []
    var value: UInt64 = 1
    while value < 1 << 62 {
      values += [value, value + value / 3]
      value += value / 5 + 1
    }
    values.append(.max)
    for value in values { histogram.add(value) }
    values.sort()
    for share in stride(from: 0.0, through: 1, by: 0.01) {
      let exact = values[max(1, Int((share * Double(values.count)).rounded(.up))) - 1]
      let found = histogram.percentile(share)
      #expect(found >= exact && found - exact <= exact / 64, "\(share)")
    }
    #expect(histogram.max == .max && histogram.count == UInt64(values.count))
    #expect(histogram.filled.map(\.count).reduce(0, +) == histogram.count)
    #expect(histogram.count(upTo: .max) == histogram.count)
  }

  @Test("two added are that of all values, and of none everything is 0")
  func sums() {
    var (first, second, both) = (BenchHistogram(), BenchHistogram(), BenchHistogram())
    #expect(first.percentile(0.5) == 0 && first.mean == 0 && first.text.isEmpty)
    for value in stride(from: UInt64(3), to: 1_000_000, by: 997) {
      if value % 2 == 0 { first.add(value) } else { second.add(value) }
      both.add(value)
    }
    first.add(second)
    #expect(first.count == both.count && first.mean == both.mean && first.text == both.text)
    #expect(first.percentile(0.99) == both.percentile(0.99))
  }
}
