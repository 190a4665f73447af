import LossdTensor
import Testing

@Suite struct NearestNameTests {
  private let functions = [
    "binary_cross_entropy", "binary_cross_entropy_with_logits", "cross_entropy", "log_softmax",
    "multilabel_soft_margin_loss", "nll_loss", "sigmoid", "softmax",
  ]

  @Test(
    "a slip of the hand is recognised, and so is another spelling",
    arguments: [
      ("sofmax", "softmax"), ("softmaxx", "softmax"), ("osftmax", "softmax"),
      ("SoftMax", "softmax"), ("CrossEntropy", "cross_entropy"), ("crossentropy", "cross_entropy"),
      ("cross-entropy", "cross_entropy"), ("cross_entropy_loss", "cross_entropy"),
      ("cross", "cross_entropy"), ("nl_loss", "nll_loss"), ("sigmiod", "sigmoid"),
      ("logsoftmax", "log_softmax"), ("multilabel_soft_margin", "multilabel_soft_margin_loss"),
    ])
  func near(_ name: String, _ meant: String) {
    #expect(nearestName(name, among: functions) == meant)
    #expect(didYouMean(name, among: functions) == "; did you mean `\(meant)`?")
  }

  @Test(
    "what is near to none gets no guess",
    arguments: [
      "", "_", "x", "relu", "mse_loss", "huber", "e", String(repeating: "softmax", count: 20),
    ])
  func far(_ name: String) {
    #expect(nearestName(name, among: functions) == nil)
    #expect(didYouMean(name, among: functions) == "")
  }

  @Test("names of one letter, of other scripts and of any length are compared without harm")
  func odd() {
    #expect(nearestName("b", among: ["a"]) == nil)
    #expect(nearestName("dim", among: ["dim"]) == "dim")
    #expect(nearestName("größe", among: ["große"]) == "große")
    #expect(nearestName("softmax", among: [String(repeating: "softmax", count: 1000)]) == nil)
    #expect(nearestName(String(repeating: "a", count: 1 << 20), among: functions) == nil)
    #expect(nearestName("softmax", among: [] as [String]) == nil)
  }
}
